"""Kinds of product for work: computers, phones, office, tools and materials.

A kind is a block of lines: `leaf category | shape | share | price`, nouns, brands, and one or more lines of features.
"""

WORK_KINDS = {
    "Computers & Software": """
Computers, Laptops & Netbooks / PC Laptops & Netbooks | laptop | 6 | 170
laptop; notebook; Chromebook; gaming laptop
Dell; HP; Lenovo; Acer; Asus
Windows 10 with 8gb RAM; SSD makes it quick; battery holds three hours
keyboard has all keys; i5 processor; webcam works

Computers, Laptops & Netbooks / Monitors & Projectors | monitor | 2 | 60
monitor; computer screen; widescreen monitor; LED display
Dell; AOC; BenQ; Samsung; LG
24 inch full HD; HDMI and VGA; no dead pixels
tilting foot; power lead included

Computers, Laptops & Netbooks / Desktop & Workstation PCs | tower | 1.2 | 150
desktop PC; gaming PC; tower computer; workstation
Dell; HP; Fujitsu; Medion; custom build
16gb RAM and graphics card; quiet fans; fresh Windows
1tb hard drive; wifi card fitted

Computers, Laptops & Netbooks / Keyboards & Mice | keyboard | 4 | 18
keyboard; mechanical keyboard; keyboard and mouse; wireless keyboard
Logitech; Microsoft; Corsair; Cherry; Razer
UK layout; clicky keys; USB dongle included
backlit; wrist rest

Computers, Laptops & Netbooks / Printers & Scanners | printer | 1 | 35
printer; laser printer; inkjet printer; all in one scanner
Epson; Canon; HP; Brother; Kodak
prints in colour; toner half full; scans to USB
paper tray takes A4; set up disc

Computers, Laptops & Netbooks / Modems, Broadband & Networking | router | 1 | 20
wifi router; broadband modem; wireless router; network switch
Netgear; TP-Link; BT; Asus; Linksys
two aerials; four ethernet ports; resets with a pin
dual band; power supply included
""",
    "Phones, Mobile Phones & Telecoms": """
Mobile Phones / Smartphones | smartphone | 6 | 140
iPhone; Samsung Galaxy; smartphone; mobile phone
Apple; Samsung; Huawei; Google; OnePlus
unlocked to any network; 64gb; battery health at ninety percent
no cracks on the screen; sim free; face unlock

Mobile Phones / Classic Phones | flip_phone | 1.2 | 20
flip phone; Nokia mobile; senior mobile with big buttons; clamshell phone
Nokia; Doro; Motorola; Sagem; Alcatel
texts and calls only; battery lasts a week; on EE
keys light up; good spare handset

Smart Watch | smart_watch | 1 | 65
smart watch; Apple Watch; fitness tracker; Fitbit
Apple; Fitbit; Garmin; Samsung; Amazfit
shows calls and texts; heart rate; strap in two lengths
pairs by bluetooth; GPS

Home Phones & Answering Machines | desk_phone | 2 | 15
landline phone; cordless home phone; retro telephone; answering machine
BT; Panasonic; Gigaset; Philips; GPO
caller display; handset and cradle; plugs into the BT socket
redial and mute; loud ringer

Mobile Phone Accessories / Headsets | headset | 4 | 22
headphones; bluetooth headset; hands free headset; wireless earphones
JBL; Jabra; Sony; Beats; Bose
microphone is clear; ear pads soft; charges by USB
takes calls; folds up

Radio Communication Equipment | walkie_talkie | 1 | 30
walkie talkies; two way radio; CB radio; pair of handheld radios
Motorola; Baofeng; Cobra; Midland; Binatone
range of three miles; clips on a belt; charging dock
eight channels; aerial unscrews
""",
    "Office Furniture & Equipment": """
Office Furniture / Chairs | office_chair | 6 | 38
office chair; swivel chair; computer chair; ergonomic desk chair
Herman Miller; Ikea; Humanscale; Staples; Orangebox
gas lift and tilt; lumbar support; castors for carpet
mesh back; arms adjust

Office Furniture / Desks & Tables | desk | 2 | 60
desk; office desk; writing desk; standing desk
Ikea; Steelcase; Bisley; Viking; Senator
140 by 80 cm top; cable hole; drawer pedestal
from our closed office; legs unbolt

Office Furniture / Storage & Filing Cabinets | filing_cabinet | 1.2 | 45
filing cabinet; metal cabinet; four drawer cabinet; lockable cupboard
Bisley; Silverline; Triumph; Staples; Ikea
two keys; suspension files included; drawers roll well
foolscap size; steel

Retail & Shop Fittings / Cash Registers & Supplies | cash_register | 4 | 70
cash register; electronic till; till with drawer; point of sale
Casio; Sharp; Olivetti; Sam4s; Epson
till rolls included; keys for the drawer; prints receipts
from our shop; manual

Supplies, Equipment & Stationery / Presentation | whiteboard | 1 | 28
whiteboard; flipchart easel; dry wipe board; presentation board
Nobo; Franken; Bi-Office; Viking; Staples
pens and rubber; magnetic; pad of paper
on a tripod; meeting room spare

Packaging & Mailing Supplies | boxes | 1 | 14
packing boxes; cardboard boxes; postal boxes; mailing cartons
Ryman; Davpack; Royal Mail; Kite; Rajapack
double wall; flat packed pile; used once
tape and bubble wrap; large and medium
""",
    "DIY Tools & Materials": """
Power Tools / Drills | drill | 2 | 45
cordless drill; hammer drill; combi drill; impact driver
Bosch; DeWalt; Makita; Ryobi; Black & Decker
two batteries and charger; 18v; hammer action
keyless chuck; bits included

Hand Tools / Hammers & Chisels | hammer | 1.2 | 12
claw hammer; lump hammer; mallet; hammer and chisels
Stanley; Estwing; Faithfull; Thor; Draper
ash handle; head is tight; from a joiner
16oz; little rust

Hand Tools / Saws | saw | 1 | 12
hand saw; tenon saw; panel saw; hacksaw
Spear & Jackson; Bahco; Irwin; Stanley; Disston
sharp teeth; cuts across the grain; beech handle
22 inch blade; guard included

Ladders & Access | ladder | 6 | 50
ladder; step ladder; loft ladder; extension ladder
Youngman; Abru; Werner; Zarges; Lyte
aluminium; rubber feet; reaches the gutter
seven treads; locks open

Tool Storage & Workbenches | toolbox | 1 | 25
tool box; toolbox with tools; tool chest; socket set in a case
Stanley; Halfords; Snap On; Draper; Facom
lift out tray; spanners included; padlock hasp
steel; carry handle

Building Materials / Bricks & Blocks | bricks | 4 | 45
bricks; reclaimed bricks; paving blocks; pallet of bricks
Ibstock; Marshalls; Hanson; London Brick; Wienerberger
about two hundred; cleaned of mortar; left from an extension
frost proof; stacked on the drive
""",
}
