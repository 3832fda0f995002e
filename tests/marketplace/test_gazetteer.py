"""gazetteer.py: the right one of several towns, offline, by the rules that the report names."""

import numpy as np
import pytest

from marketplace.gazetteer import MAX_COUNTY_KM, county_centres, distance_km, locate, place_key


def test_distance_by_hand():
    assert distance_km(51.5074, -0.1278, 48.8566, 2.3522) == pytest.approx(343.6, abs=0.5)  # London to Paris
    distances = distance_km(np.array([50.0, 51.0]), np.array([0.0, 0.0]), 50.0, 0.0)
    assert distances == pytest.approx([0, 111.2], abs=0.1)


@pytest.mark.parametrize(
    ("location", "latitude", "longitude"),
    [
        ("Ashford, Surrey", 51.43, -0.46),
        ("Ashford, Kent", 51.15, 0.87),
        ("Ashford, Surrey, UK", 51.43, -0.46),
        ("Newport, Isle of Wight", 50.70, -1.29),
        ("Newcastle, County Down", 54.22, -5.89),
        ("Newcastle, Tyne & Wear", 54.97, -1.61),
        ("HULL, east yorkshire", 53.74, -0.33),
        ("King’s Lynn, Norfolk", 52.75, 0.40),
        ("Douglas, Isle of Man", 54.15, -4.48),
        ("St. Helier, Jersey", 49.19, -2.10),
        ("London", 51.51, -0.13),
    ],
)
def test_the_town_meant_is_found(location, latitude, longitude):
    place = locate(location)
    assert place.rule == "town" and distance_km(*place[:2], latitude, longitude) < 5


@pytest.mark.parametrize("location", ["Gateshead, Cornwall", "Nosuchtown, Cornwall", "Cornwall"])
def test_a_town_far_from_the_centre_of_its_county_does_not_count(location):
    gateshead = locate("Gateshead")
    assert distance_km(*gateshead[:2], *county_centres()["cornwall"]) > MAX_COUNTY_KM
    assert locate(location) == (*county_centres()["cornwall"], "county centre")


@pytest.mark.parametrize(
    ("location", "town"), [("Downend, Bristol", "Bristol"), ("Nosuchtown, Reading, Berkshire", "Reading")]
)
def test_a_further_name_that_is_a_town_there_locates(location, town):
    assert locate(location) == (*locate(town)[:2], "county name")


@pytest.mark.parametrize("location", ["", " , ", "Nowhere", "Truro, Nowhere", "Paris, France", "Cardiff, Wales", "😀"])
def test_a_place_without_a_known_county_is_none(location):
    assert locate(location) is None


def test_the_centres_of_counties_are_keys_and_lie_near_to_towns_there():
    towns = {
        "cornwall": "Truro", "cumbria": "Penrith", "devon": "Exeter", "fife": "Kirkcaldy", "norfolk": "Norwich",
        "powys": "Llandrindod Wells", "county tyrone": "Omagh", "isle of man": "Douglas", "surrey": "Guildford",
    }  # fmt: skip
    for county, town in towns.items():
        assert distance_km(*locate(town)[:2], *county_centres()[county]) < 60, county
    assert all(place_key(name) == name for name in county_centres())
    assert all(49 < latitude < 61 and -9 < longitude < 2 for latitude, longitude in county_centres().values())
