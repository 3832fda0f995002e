"""Kinds of product of the house: appliances, home and garden, baby and kids, clothes, health and beauty.

A kind is a block of lines: `leaf category | shape | share | price`, nouns, brands, and one or more lines of features.
"""

HOME_KINDS = {
    "Appliances": """
Fridge Freezers | fridge | 2 | 110
fridge freezer; tall fridge; larder fridge; upright freezer
Bosch; Beko; Hotpoint; Liebherr; Zanussi
frost free with three drawers in the freezer; shelves and salad crisper all there; door can be hung on either side
keeps milk nice and cold; ice box works as it should; small dent low on the door

Washing Machines | washing_machine | 6 | 95
washing machine; washer dryer; front loading washer; tumble dryer
Bosch; Indesit; Hoover; Samsung; Candy
7kg drum and 1400 spin; quick wash of half an hour; door seal is clean without mould
hoses included; programme dial and soap drawer fine; drains and spins quietly

Ovens, Hobs & Cookers / Cookers | cooker | 4 | 140
electric cooker; gas cooker; double oven; range cooker with hob
Belling; Leisure; Neff; Rangemaster; Stoves
four rings on the hob; grill and oven both heat up fast; glass door cleaned last week
60cm wide and freestanding; needs a gas safe fitter; timer and clock work

Home Appliances / Vacuum Cleaners | vacuum | 1.2 | 55
vacuum cleaner; upright hoover; carpet cleaner; pet vacuum
Dyson; Henry; Shark; Vax; Miele
strong suction and new filter; with hose and crevice tool; good on carpets and pet hair
long cable; dust bag half full; brush bar turns freely

Small Appliances / Kettles & Toasters | kettle | 1 | 18
kettle; fast boil kettle; jug kettle; kettle and toaster set
Breville; Russell Hobbs; De'Longhi; Swan; Smeg
boils a litre and a half; descaled last month; sits on a round power base
water gauge on the side; lid opens with a button

Microwaves | microwave | 1 | 35
microwave; microwave oven; combi microwave; compact microwave
Panasonic; Sharp; Daewoo; Tesco; Sanyo
800 watt with turntable; defrost by weight; glass plate has no chips
keypad and clock all fine; heats a plate in two minutes
""",
    "Home & Garden": """
Dining, Living Room Furniture / Sofas, Armchairs & Suites | sofa | 6 | 130
sofa; two seater settee; three seater couch; corner sofa
DFS; Ikea; Next; Made; Oak Furnitureland
cushions are plump with zip off covers; deep and comfy to sink in; feet unscrew to get it through the door
fabric has been steam cleaned; one arm a bit worn; converts for a guest

Beds & Bedroom Furniture / Double Beds | bed | 1.2 | 95
double bed; king size bed frame; single bed with mattress; divan with headboard
Silentnight; Ikea; Dreams; Bensons; Warren Evans
slats and headboard included; mattress was always under a protector; drawers below for bedding
comes apart for moving; bolts in a bag

Dining, Living Room Furniture / Lighting & Fittings | lamp | 4 | 22
table lamp; standard lamp; bedside lamp; lamp with shade
Laura Ashley; Habitat; Ikea; John Lewis; Dunelm
shade is lined and unmarked; warm bulb included; gives a cosy light in the evening
switch on the flex; turned base

Garden & Patio / Plants & Pots | plant | 1 | 14
house plant; potted plant; yucca in a pot; cheese plant
Crocus; Dobbies; Wyevale; Patch; homegrown
likes a sunny window; repotted in the spring; water once a week
glazed planter included; new leaves coming

Garden & Patio / Outdoor Settings & Furniture | parasol | 1 | 40
garden parasol; patio umbrella; cantilever parasol; sun parasol with base
Argos; Homebase; Hartman; Kettler; Wilko
crank handle opens smoothly; heavy base included; canopy sprayed against rain
shades a table for six; folds away for winter

Beds & Bedroom Furniture / Chests & Drawers | drawers | 2 | 60
chest of drawers; tallboy; bedside drawers; pine dresser
Ikea; Stag; Ercol; Argos; Julian Bowen
dovetail joints and runners waxed; four deep drawers; knobs easily changed
could be painted for a project; anti tip strap included
""",
    "Baby & Kids Stuff": """
Prams & Strollers | pram | 2 | 80
pram; pushchair; buggy; travel system
Silver Cross; Bugaboo; iCandy; Maclaren; Mamas & Papas
suitable from birth; rain cover and footmuff; folds with one hand
wheels are puncture proof; hood has a little window; shopping basket below

Nursery & Children's Furniture / Cots & Beds | cot | 4 | 50
cot; cot bed; wooden crib; toddler bed
Mamas & Papas; Ikea; Mothercare; Stokke; Kub
three mattress heights; teething rails on both sides; one side drops
made our newborn sleep well; bars spaced to the standard

Toys / Soft Toys | teddy | 6 | 9
teddy bear; cuddly toy; plush bunny; soft toy bundle
Steiff; Jellycat; Disney; Build a Bear; Hamleys
washed and well loved; soft fur and stitched eyes; no loose parts for little ones
was in the nursery as decoration; bow round the neck

Feeding / High Chairs | high_chair | 1 | 28
high chair; baby feeding chair; booster seat with tray; weaning chair
Stokke; Cosatto; Ikea; Chicco; Joie
tray lifts off to wash; five point harness; seat pad wipes clean
folds flat beside the fridge; for six months to three years

Baby Clothes | babygrow | 1.2 | 8
babygrow bundle; sleepsuits; romper suit; baby vests
Next; George; JoJo Maman Bebe; Boots; Frugi
size 3 to 6 months; poppers all work; cotton with built in scratch mitts
washed in non bio; newborn and first size mixed

Toys / Building & Wooden Toys | blocks | 1 | 14
wooden building blocks; toddler stacking toy; alphabet bricks; shape sorter
Duplo; Brio; Melissa & Doug; Fisher Price; Galt
letters on every side; forty pieces in a tub; good for little hands
toddler has outgrown them; no splinters
""",
    "Clothes, Footwear & Accessories": """
Women's Clothing / Dresses | dress | 6 | 20
dress; summer dress; evening dress; maxi dress
Monsoon; Zara; Boden; Phase Eight; Ted Baker
size 12 and true to size; worn once to a wedding; lined with a hidden zip
flattering waist; dry cleaned since

Men's Shoes & Boots / Trainers | shoe | 4 | 28
trainers; running shoes; leather shoes; canvas sneakers
Nike; Adidas; Converse; Clarks; Puma
UK size 9; soles have plenty of grip left; laces are new
box included; worn indoors twice; insoles can be taken out

Women's Accessories / Women's Bags & Handbags | handbag | 1.2 | 30
handbag; shoulder bag; leather tote; clutch bag
Radley; Kipling; Fiorelli; Michael Kors; Osprey
inner zip pocket; dust bag and tag still there; strap adjusts to cross body
leather has softened nicely; clasp shuts well

Men's Clothing / Coats & Jackets | jacket | 2 | 32
jacket; winter coat; denim jacket; waterproof jacket
Barbour; North Face; Superdry; Levi's; Berghaus
size large with deep pockets; hood rolls into the collar; all buttons there
warm lining; sleeves not too long

Watches | watch | 1 | 42
wrist watch; ladies watch; mens dress watch; chronograph watch
Seiko; Casio; Fossil; Timex; Citizen
new battery last month; leather strap has wear; keeps good time
glass has no scratches; date window

Women's Accessories / Hats | hat | 1 | 12
sun hat; fedora; woollen hat; wide brimmed hat
Barbour; Kangol; Accessorize; Joules; Seasalt
one size; ribbon round the crown; brim keeps its form
worn to the races once
""",
    "Health & Beauty": """
Mobility, Disability & Medical | wheelchair | 4 | 90
wheelchair; transit wheelchair; self propelled wheelchair; folding mobility chair
Drive; Invacare; Days; Karma; Lomax
footrests swing away; brakes on both wheels; folds to fit a boot
belonged to my late mother; cushion included; carries eighteen stone

Fragrances | perfume | 1.2 | 24
perfume; eau de parfum; aftershave; gift set of fragrance
Chanel; Dior; Jo Malone; Calvin Klein; Paco Rabanne
100ml and nearly full; sprayed twice; sealed in cellophane
unwanted present; floral scent with vanilla

Hair Care & Styling | hair_dryer | 6 | 20
hair dryer; salon hairdryer; hair styler; curling set with dryer
GHD; Babyliss; Remington; Dyson; Toni & Guy
ionic with diffuser; three heats and cool shot; dries long hair fast
heat mat included; nozzle turns

Make Up & Cosmetics | lipstick | 1 | 9
lipstick; make up bundle; lip colour set; cosmetics job lot
MAC; Rimmel; Maybelline; Nars; No7
matte shade never opened; long lasting and not drying; tested once on the hand
swatches on request; sealed stock

Manicure & Pedicure | nail_polish | 2 | 8
nail polish; gel nail varnish; manicure set; nail art kit
OPI; Essie; Barry M; Shellac; Mylee
dries in a minute; base and top coat too; twelve shades
files and brushes included; bottles are full

Massage Products | massage_table | 1 | 50
massage table; treatment couch; beauty therapy bed; folding massage couch
Massage Warehouse; Beurer; Lierre; Affinity; HoMedics
face hole and arm rests; padding is thick; used by a mobile therapist
wipes clean with oils; legs adjust in height
""",
}
