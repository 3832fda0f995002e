"""What sellers write: titles, descriptions, prices, and the banner that the site puts under some descriptions.

A listing's text is clear (it names the thing), indirect (it has some of its features only) or vague (it fits nearly
anything, so that only the photo tells the category). Sellers also mention other things, so that words of one category
occur in listings of others.
"""

import random

from sample_marketplace.kinds import KINDS, Kind

CLEAR, INDIRECT, VAGUE = "clear", "indirect", "vague"
CLARITY_SHARES = {CLEAR: 0.88, INDIRECT: 0.05, VAGUE: 0.07}

NEIGHBOUR_SHARES = {CLEAR: 0.25, INDIRECT: 0.3, VAGUE: 0.4}  # share of texts that may mention another thing

CONDITIONS = {
    "brand new": 1.5,
    "like new": 1.25,
    "excellent condition": 1.1,
    "very good condition": 1.0,
    "good condition": 0.9,
    "used but fine": 0.7,
    "well used": 0.5,
    "sold as seen": 0.35,
}

OPENINGS = ("{} for sale", "Selling my {}", "{}", "Here is a {}", "A {} looking for a new owner")

GENERIC_TITLES = (
    "Bargain", "Moving house sale", "Must go this week", "Clear out", "Great item", "As in the pictures",
    "Nearly new item", "Quick sale wanted", "House clearance", "Please look", "Lovely thing", "Ideal present",
    "Open to offers", "Unwanted gift", "Job lot", "Garage find", "Spare one", "Make me an offer", "Loft find",
    "Still available", "Low price for a quick sale", "Good one", "Needs a new home", "Hardly touched", "Last one left",
)  # fmt: skip

CONDITION_LINES = (
    "Condition: {condition}.", "{Condition}, see the photos.", "{Condition} overall.", "{Condition} for its age.",
    "I would call it {condition}.", "{Condition}, as you can see.", "Honest description: {condition}.",
)  # fmt: skip

REASONS = (
    "Selling because we are moving in {month}.", "We need the space.", "Bought {years} years ago and not needed now.",
    "An unwanted gift from {month}.", "Having a big clear out.", "My {relative} no longer uses it.",
    "Replaced it with another one last week.", "Downsizing so it has to go.", "Found it while tidying the {room}.",
    "It belonged to my {relative}.", "Bought it by mistake and cannot return it.", "Changed my mind about it.",
    "It has stood in the {room} since {month}.", "Got two so one can go.",
)  # fmt: skip

COLLECTION = (
    "Collection only from {town}.", "Pick up from {town} please.", "Collect in {town}, evenings are best.",
    "Can deliver around {town} for fuel.", "Buyer collects, cash please.", "Can post for £{postage}.",
    "Cash on collection or bank transfer.", "Free local delivery near {town}.", "Viewing welcome at the weekend.",
    "Postage is £{postage} or pick up in {town}.", "First to see will buy.",
)  # fmt: skip

CLOSINGS = (
    "No time wasters please.", "Sensible offers considered.", "From a smoke free and pet free home.",
    "Any questions just ask.", "Text or message me.", "More pictures on request.", "Price is not negotiable.",
    "Thanks for looking.", "See my other ads.", "Will be taken down when sold.", "Sold as pictured, no returns.",
    "Grab it before {month}.", "Ono.", "Paid £{paid} for it.", "Ring after {hour} please.",
)  # fmt: skip

# Longer sentences that do not describe the thing.
STORIES = (
    "We moved into a smaller place in {month} and there is simply no corner left where it could stand.",
    "My {relative} bought it {years} years ago, looked after it well and has only now agreed to part with it.",
    "I meant to give it to my {relative}, but as so often they had already got one somewhere else.",
    "It has been in the {room} under a sheet since {month}, so there is some dust but nothing worse.",
    "I paid £{paid} for it and think the price I ask is more than fair, so please no silly offers.",
    "Please read the whole ad and look at every picture before you ask, as most answers are there already.",
    "I am at home most evenings after {hour} and all day on Sundays if you would like to come and see it.",
    "If the ad is still up then it is still for sale, and I answer all messages within a day.",
    "There is parking right outside the house and my {relative} can help you to carry it to the car.",
    "Half of the money goes to the hospice shop in {town}, which looked after my {relative} so kindly.",
    "Someone from {town} said they would have it and then never came, so here it is once more.",
    "I can hold it for {few} days with a small deposit, after that it goes to the next person in the queue.",
    "We are clearing the {room} bit by bit, so have a look at what else is on offer and save yourself a trip.",
    "It deserves to be used again instead of gathering dust in our {room}, which is why I am letting it go.",
)

# Things that fit several neighbouring categories at once; Other Goods overlaps with all of them.
SHARED_LINES = {
    ("Appliances", "Computers & Software", "Video Games & Consoles", "Phones, Mobile Phones & Telecoms",
     "Health & Beauty", "Office Furniture & Equipment"): (
        "Plugs in and powers up as it should.", "Mains lead is included.", "Tested this morning and working.",
        "Comes with its manual and cable.", "All buttons do what they should.", "Small scratch on the casing.",
    ),
    ("Home & Garden", "Office Furniture & Equipment", "Appliances", "DIY Tools & Materials", "Baby & Kids Stuff"): (
        "It is heavy, so bring a second pair of hands.", "Measures about {size} by {other} cm.",
        "Stored dry in the {room}.", "Fits in a hatchback with the seats down.", "Easy to take apart.",
        "Some marks on one side that a wipe would take off.",
    ),
    ("Clothes, Footwear & Accessories", "Baby & Kids Stuff", "Sports, Leisure & Travel", "Health & Beauty"): (
        "Never worn and tag still attached.", "Size is on the label.", "Too small for me now.",
        "Straps can be made longer.", "Would suit a beginner or a teenager.", "Kept in its pouch.",
    ),
    ("Music, Films, Books & Games", "Video Games & Consoles", "Computers & Software", "Baby & Kids Stuff"): (
        "Box is a bit tatty but all is inside.", "Hours of fun for all ages.", "One of a set of {few}.",
        "A real classic.", "The kids have moved on to other things.", "Complete, nothing is missing.",
    ),
    ("DIY Tools & Materials", "Sports, Leisure & Travel", "Home & Garden", "Office Furniture & Equipment"): (
        "Sturdy metal, a touch of rust.", "Handle is sound.", "Has been kept in the shed.",
        "Left over after a job we did.", "Only used outdoors {few} times.", "Folds for storage.",
    ),
    ("Phones, Mobile Phones & Telecoms", "Clothes, Footwear & Accessories", "Video Games & Consoles",
     "Music, Films, Books & Games", "Health & Beauty"): (
        "Small enough to post.", "In its original box.", "Bought in {month} with receipt.", "Scratch free.",
        "Comes with a spare.", "Limited edition, they do not make it any more.",
    ),
}  # fmt: skip

NEIGHBOUR_LINES = (
    "Would swap for a {noun}.", "Also have a {noun} for sale.", "Came with a {noun} that has gone already.",
    "Selling a {noun} as well, ask me.", "Goes well next to a {noun}.", "May exchange for a {noun} with cash my way.",
    "Not to be confused with the {noun} in my other ad.",
)  # fmt: skip

EMOJI = ("😊", "👍", "⭐", "🔥", "✅", "💯", "🎁", "🚚", "🙂", "❤️")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December")  # fmt: skip
RELATIVES = ("daughter", "son", "mum", "dad", "wife", "husband", "nan", "uncle", "neighbour", "sister", "partner")
ROOMS = ("garage", "loft", "spare room", "shed", "hallway", "cellar", "kitchen", "study", "attic", "conservatory")


def pick(rng: random.Random, options):
    """One of `options`; much faster than rng.choice, which matters for a million listings."""
    return options[int(rng.random() * len(options))]


_SHARED_BY_CATEGORY = {
    category: tuple(
        line
        for group, lines in SHARED_LINES.items()
        if category in group or category == "Other Goods"
        for line in lines
    )
    for category in {kind.main_category for kind in KINDS}
}


def draw_clarity(rng: random.Random) -> str:
    chance = rng.random()
    if chance < CLARITY_SHARES[CLEAR]:
        return CLEAR
    return INDIRECT if chance < 1 - CLARITY_SHARES[VAGUE] else VAGUE


def sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _fill(rng: random.Random, line: str, town: str, condition: str, price: float) -> str:
    """Replace the placeholders of a line by words of this listing."""
    if "{" not in line:
        return line
    return line.format_map(
        {
            "town": town,
            "condition": condition,
            "Condition": sentence_case(condition),
            "month": pick(rng, MONTHS),
            "years": 2 + int(rng.random() * 8),
            "relative": pick(rng, RELATIVES),
            "room": pick(rng, ROOMS),
            "postage": 3 + int(rng.random() * 6),
            "hour": 3 + int(rng.random() * 5),
            "few": 2 + int(rng.random() * 5),
            "size": 20 + int(rng.random() * 120),
            "other": 15 + int(rng.random() * 70),
            "paid": max(5, int(price * (1.3 + 2 * rng.random()))),
        }
    )


def write_title(rng: random.Random, kind: Kind, clarity: str, colour: str, condition: str) -> str:
    """The listing's name without place and site."""
    if clarity == VAGUE:
        title = pick(rng, GENERIC_TITLES)
        chance = rng.random()
        if chance < 0.35:
            title = f"{title} - {condition}"
        elif chance < 0.55:
            title = f"{title}, {colour}"
        return title
    if clarity == INDIRECT:
        chance = rng.random()
        if chance < 0.4:
            return f"{pick(rng, kind.brands)} - {pick(rng, GENERIC_TITLES).lower()}"
        if chance < 0.7:
            return f"{sentence_case(colour)} one, {condition}"
        return pick(rng, GENERIC_TITLES)
    noun, chance = pick(rng, kind.nouns), rng.random()
    if chance < 0.18:
        return f"{pick(rng, kind.brands)} {noun}"
    if chance < 0.28:
        return f"{sentence_case(colour)} {noun}"
    if chance < 0.42:
        return f"{sentence_case(noun)} by {pick(rng, kind.brands)}"
    if chance < 0.6:
        return f"{sentence_case(noun)} - {condition}"
    if chance < 0.72:
        return f"{sentence_case(noun)} for sale"
    if chance < 0.86:
        return f"{sentence_case(noun)} in {colour}, {condition}"
    return sentence_case(noun)


def write_description(
    rng: random.Random, kind: Kind, clarity: str, colour: str, condition: str, town: str, price: float
) -> str:
    """6 to 90 words on the thing and the sale; some mention another thing."""
    target = int(6 + 84 * rng.random() ** 2.2)
    shared = _SHARED_BY_CATEGORY[kind.main_category]
    if clarity == CLEAR:
        noun = pick(rng, kind.nouns)
        lead = pick(rng, OPENINGS).format(noun if rng.random() < 0.6 else f"{colour} {noun}")
        about = [lead, *rng.sample(kind.features, min(len(kind.features), 1 + target // 18))]
    elif clarity == INDIRECT:
        about = rng.sample(kind.features, 1 + (target > 25) + (target > 60))
    else:
        about = []
    lines = [sentence_case(line) + "." for line in about] or [pick(rng, shared)]

    chatter = [pick(rng, CONDITION_LINES), pick(rng, REASONS), pick(rng, COLLECTION), pick(rng, shared)]
    chatter.append(pick(rng, CLOSINGS))
    if rng.random() < NEIGHBOUR_SHARES[clarity]:
        chatter.append(pick(rng, NEIGHBOUR_LINES).format(noun=pick(rng, pick(rng, KINDS).nouns)))
    rng.shuffle(chatter)
    chatter += rng.sample(STORIES, 3)
    words = sum(line.count(" ") + 1 for line in lines)
    for line in chatter:
        if words >= target:
            break
        if line not in lines:
            lines.append(line)
            words += line.count(" ") + 1
    gap = "\r" if rng.random() < 0.25 else " \r " if rng.random() < 0.06 else " "
    text = gap.join(_fill(rng, line, town, condition, price) for line in lines)
    if text.count(" ") + text.count("\r") < 5:
        text += f" {sentence_case(colour)}, {condition}, {town}."
    if rng.random() < 0.07:
        text += " " + pick(rng, EMOJI) * (1 + int(rng.random() * 3))
    return text


def write_banner(rng: random.Random, text: str, title: str, category: str, town: str) -> str:
    """The description with the site's banner, which names the category."""
    place = ", ".join(category.split(" / ")[-2:])
    date = f"{1 + int(rng.random() * 28)} {pick(rng, MONTHS)} {2020 + int(rng.random() * 3)}"
    return f"{text} {title}. Posted by a seller in {place} in {town}. {date}"


def draw_price(rng: random.Random, kind: Kind, condition: str) -> float:
    """Pounds: log-normal around the kind's usual price and the condition, some £0.00, a few absurd."""
    chance = rng.random()
    if chance < 0.015:
        return 0.0
    if chance < 0.019:
        return pick(rng, (0.01, 12345.0, 99999.0, 123456.0, 999999.0, 1234567.0))
    price = kind.price * 1.15 * CONDITIONS[condition] * rng.lognormvariate(0, 0.6)
    if price < 10:
        return max(1.0, round(price * 2) / 2)
    if price < 100:
        return float(5 * round(price / 5)) if rng.random() < 0.75 else float(round(price)) - 0.01
    return float(10 * round(price / 10)) if rng.random() < 0.8 else float(round(price))


def price_text(price: float) -> str:
    return f"£{price:,.2f}"
