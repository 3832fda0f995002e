"""Kinds of product for free time: music and books, video games, sports and travel, other goods.

A kind is a block of lines: `leaf category | shape | share | price`, nouns, brands, and one or more lines of features.
"""

LEISURE_KINDS = {
    "Music, Films, Books & Games": """
Music / Vinyl | vinyl | 6 | 10
vinyl record; LP; twelve inch single; record collection
Decca; EMI; Parlophone; Island; Motown
sleeve has light ring wear; plays without jumps; first pressing with lyric sheet
sixties and seventies mostly; stored upright

Books, Comics & Magazines / Books | books | 2 | 8
books; paperback novels; hardback book; set of crime novels
Penguin; Faber; Folio; Ladybird; Collins
spines uncreased; read once; a few pages turned down
the whole series in order; smoke free shelf

Musical Instruments / Guitars | guitar | 4 | 110
acoustic guitar; electric guitar; classical guitar; bass guitar
Fender; Yamaha; Epiphone; Ibanez; Tanglewood
low action and new strings; gig bag and strap; neck is straight
good for a learner; small ding on the body

Music / CDs & Cassettes | cassette | 1.2 | 6
cassettes; box of tapes; mixtape collection; album on cassette
TDK; Sony; Maxell; Virgin; Trojan
cases not cracked; inlay cards present; plays well on my deck
mostly eighties pop; reggae among them

Films & TV / DVDs | film | 1 | 7
DVD box set; film reel; cine projector films; blu rays
Disney; BBC; Warner; Kodak; Criterion
complete series; discs unmarked; with extra features
family films and thrillers; region 2

Games & Board Games | chess | 1 | 13
board game; chess set; jigsaw puzzle; draughts and chess
Hasbro; Ravensburger; Jaques; Waddingtons; Asmodee
all pieces counted; rules in the lid; for two to six players
wooden board; played at Christmas only
""",
    "Video Games & Consoles": """
Video Game Accessories / Video Game Controllers | controller | 6 | 26
controller; wireless gamepad; pair of controllers; joypad
Sony; Xbox; Nintendo; 8BitDo; Razer
no stick drift; rumble works; charging lead included
triggers feel crisp; pairs at once

Consoles / PlayStation & Xbox | console | 2 | 160
PlayStation; Xbox; games console; console bundle
Sony; Microsoft; Sega; Nintendo; Atari
500gb with two pads; disc drive reads fine; reset to factory settings
HDMI and power lead; runs quietly; five titles to play

Consoles / Handheld | handheld | 4 | 85
Nintendo Switch; Game Boy; handheld console; Nintendo DS
Nintendo; Sony; Sega; Anbernic; Valve
screen protector on since new; d-pad and buttons click; dock not included
battery lasts a journey; three cartridges

Games | cartridge | 1.2 | 15
video game; game cartridge; retro game; Nintendo cartridge
Nintendo; Capcom; Sega; EA; Ubisoft
saves work; label is clean; multiplayer is fun
finished it last week; PAL version

Gaming Merchandise / Arcade | arcade | 1 | 190
arcade machine; fruit machine; mini arcade cabinet; retro arcade
Taito; Namco; Atari; Arcade1Up; Midway
plays hundreds of classics; joystick and six buttons; marquee lights up
coin door with key; great in a games room

Virtual Reality Headsets | vr_headset | 1 | 140
VR headset; virtual reality goggles; Oculus Quest; PSVR
Oculus; HTC; Sony; Pico; Valve
lenses without scratches; straps cleaned; tracking is spot on
two motion pads; face foam replaced
""",
    "Sports, Leisure & Travel": """
Bicycles | bicycle | 6 | 100
mountain bike; road bike; bicycle; hybrid bike
Raleigh; Trek; Specialized; Carrera; Giant
21 gears and new brake blocks; 18 inch frame; tyres pumped and true
serviced in spring; mudguards fitted

Fitness & Gym Equipment / Weights & Dumbbells | dumbbell | 4 | 30
dumbbells; weights set; barbell; kettlebell and weights
York; Bodymax; Domyos; Everlast; Mirafit
20kg pair with collars; cast iron; for a home gym
rubber ends do not mark the floor; bench not included

Ball & Racquet Sport Equipment | racket | 1.2 | 18
tennis racket; badminton set; squash racket; racquet with cover
Wilson; Head; Slazenger; Dunlop; Babolat
strung last summer; grip is new; for club players
junior size; balls thrown in

Football | football | 1 | 10
football; match ball; training football; rugby ball
Mitre; Adidas; Nike; Gilbert; Umbro
size 5; holds its air; used on grass only
pump included; signed by the team

Luggage & Travel Equipment / Suitcases | suitcase | 2 | 25
suitcase; cabin case; trolley luggage; holiday suitcase
Samsonite; Antler; Tripp; Eastpak; Delsey
four wheels run smoothly; fits cabin size; combination lock
went on two flights; telescopic handle

Camping & Hiking / Tents | tent | 1 | 55
tent; camping tent; pop up tent; four man tent
Vango; Coleman; Quechua; Outwell; Gelert
all pegs and poles; pitched once for a festival; sewn in groundsheet
dry and without mould; goes up in ten minutes
""",
    "Other Goods": """
Aquariums | aquarium | 6 | 55
aquarium; fish tank; tropical tank; fishbowl set up
Fluval; Juwel; Interpet; Aqua One; Tetra
60 litre with filter; gravel and plants included; light in the hood
no leaks; fish not included

Scrapbooking, Sewing, Art, Craft | sewing_machine | 2 | 65
sewing machine; overlocker; vintage hand crank machine; craft machine
Singer; Brother; Janome; Bernina; Toyota
bobbins and foot pedal; sews denim; timing checked
case included; zig zag and buttonhole

Antiques | vase | 4 | 35
vase; antique jug; pottery vase; pair of urns
Royal Doulton; Wedgwood; Moorcroft; Poole; Denby
hand painted; small crack at the rim; stamp on the base
from a house clearance; about a foot tall

Hobbies, Interests & Collectibles / Model Railways | train | 1.2 | 45
model train; railway set; steam locomotive; OO gauge engine
Hornby; Bachmann; Lima; Tri-ang; Mainline
runs both ways; track and controller; boxed collectible
weathered by hand; tender drive

Hobbies, Interests & Collectibles / Coins | coins | 1 | 22
coins; collection of old coins; silver crown; commemorative medals
Royal Mint; Westminster; Victorian; Georgian; Festival
not polished; in capsules; from my grandad
some silver; dates can be read

Other / Pets & Animals | birdcage | 1 | 30
bird cage; budgie cage; parrot cage; hamster cage
Ferplast; Liberta; Savic; Rainforest; Trixie
perches and swing; pull out tray; door latch holds
scrubbed out; seed cups included
""",
}
