"""gazetteer.py: the right one of several towns, offline, by the rules its report names."""

import socket

import numpy as np
import pytest

from marketplace import gazetteer
from marketplace.gazetteer import Gazetteer, distance_km, place_key, regions, split_location, towns_named

# Towns known to lie in their county, far apart: a place found must be near to them.
LONDON, HULL, TRURO = (51.51, -0.13), (53.74, -0.33), (50.26, -5.05)


def near(place, latitude, longitude, km=10):
    return distance_km(place.latitude, place.longitude, latitude, longitude) < km


def test_distance_by_hand():
    assert distance_km(51.5074, -0.1278, 48.8566, 2.3522) == pytest.approx(343.6, abs=0.5)  # London to Paris
    assert distance_km(0, 0, 0, 180) == pytest.approx(np.pi * 6371.0088)
    distances = distance_km(np.array([50.0, 51.0]), np.array([0.0, 0.0]), 50.0, 0.0)
    assert distances.shape == (2,) and distances[0] == 0 and distances[1] == pytest.approx(111.2, abs=0.1)


@pytest.mark.parametrize(
    "known", [(), ("Woking, Surrey", "Dover, Kent", "Dorchester, Dorset", "Gateshead, Tyne and Wear")]
)
@pytest.mark.parametrize(
    ("location", "latitude", "longitude"),
    [
        ("Ashford, Surrey", 51.43, -0.46),
        ("Ashford, Kent", 51.15, 0.87),
        ("Gillingham, Dorset", 51.04, -2.28),
        ("Gillingham, Kent", 51.39, 0.55),
        ("Richmond, London", 51.46, -0.30),
        ("Richmond, North Yorkshire", 54.40, -1.74),
        ("Newport, Isle of Wight", 50.70, -1.29),
        ("Newcastle, County Down", 54.22, -5.89),
        ("Newcastle, Tyne and Wear", 54.97, -1.61),
        ("Bangor, Gwynedd", 53.23, -4.13),
        ("Bangor, County Down", 54.65, -5.67),
        ("Douglas, Isle of Man", 54.15, -4.48),
        ("St Helier, Jersey", 49.19, -2.10),
        ("HULL, east yorkshire", *HULL),
        ("Kings Lynn, Norfolk", 52.75, 0.40),
        ("Newcastle", 54.97, -1.61),
        ("Newport", 51.59, -3.00),
        ("Durham, Nowhere", 54.78, -1.57),
        # `&`, HTML entities, abbreviations
        ("Whitburn, Tyne & Wear", 54.95, -1.37),
        ("Whitburn, TYNE &amp; WEAR", 54.95, -1.37),
        ("Newcastle, Co. Down", 54.22, -5.89),
        ("Richmond, N. Yorks", 54.40, -1.74),
        ("Richmond, N.Yorks.", 54.40, -1.74),
        ("St. Ives, Cambs", 52.33, -0.08),
        ("St Albans, Herts", 51.75, -0.34),
        ("Newport, I.O.W.", 50.70, -1.29),
        ("Newport, Salop", 52.77, -2.38),
        ("Newport, Gwent", 51.59, -3.00),
        # nations and countries
        ("Newport, Wales", 51.59, -3.00),
        ("Newport, England", 50.70, -1.29),
        ("Bangor, N. Ireland", 54.66, -5.67),
        ("Bangor, Wales, UK", 53.23, -4.13),
        ("Newcastle, N.I., U.K.", 54.22, -5.89),
        ("Whitburn, Scotland", 55.87, -3.68),
        ("Whitburn, England, Great Britain", 54.95, -1.37),
        ("Leeds, GB", 53.80, -1.55),
        ("Leeds, Gt. Britain", 53.80, -1.55),
        ("Wales, South Yorkshire", 53.34, -1.28),
        # more than two names
        ("Ashford, Surrey, United Kingdom", 51.43, -0.46),
        ("Ashford, Surrey, TW15 2AA, UK", 51.43, -0.46),
        ("Gillingham, Dorset, England, GB", 51.04, -2.28),
        ("Newport, Monmouthshire, South Wales", 51.59, -3.00),
    ],
)
def test_the_town_meant_is_found(location, latitude, longitude, known):
    place = Gazetteer([*known, location]).locate(location)
    assert place.rule == "town" and near(place, latitude, longitude)


def test_a_county_lies_where_its_unambiguous_listings_are():
    listings = ["Penzance, Kernow", "Falmouth, Kernow", "Redruth, Kernow"]
    assert near(Gazetteer([*listings, "St Just, Kernow"]).locate("St Just, Kernow"), 50.12, -5.68, km=30)
    # Newport lies in England and in Wales, and Kernow is not known to be in either
    assert Gazetteer(listings).locate("Newport, Kernow").rule == "county mean"
    assert Gazetteer().locate("Newport, Kernow") is None


def test_one_wrong_listing_moves_no_county_of_the_table():
    listings = ["Ashford, Kent", "Gillingham, Kent", "Reading, Kent"]
    gazetteer = Gazetteer(listings)
    assert near(gazetteer.locate(listings[0]), 51.15, 0.87) and near(gazetteer.locate(listings[1]), 51.39, 0.55)


@pytest.mark.parametrize(
    "location", ["Berkshire", "Berkshire, UK", "Berks, England", "Royal Berks, Berkshire, England, GB"]
)
def test_a_county_alone_or_before_a_nation_is_at_its_mean(location):
    gazetteer = Gazetteer(["Reading, Berkshire", "Slough, Berkshire, UK"])
    place = gazetteer.locate(location)
    assert place.rule == "county mean" and near(place, 51.48, -0.78)


def test_an_unknown_town_is_at_the_name_after_the_comma():
    place = Gazetteer().locate("Nosuchtown, Bristol")
    assert (place.rule, place.county_km) == ("county name", 0)
    assert near(place, 51.45, -2.59)


def test_an_unknown_town_is_at_the_mean_of_the_countys_located_listings():
    listings = ["Dover, Kent", "Dover, Kent", "Canterbury, Kent", "Misspellt, Kent", "Leeds, West Yorkshire"]
    place = Gazetteer(listings).locate("Misspellt, Kent")
    dover, canterbury = Gazetteer().locate("Dover"), Gazetteer().locate("Canterbury")
    assert place.rule == "county mean"
    assert place.latitude == pytest.approx((2 * dover.latitude + canterbury.latitude) / 3)
    assert place.longitude == pytest.approx((2 * dover.longitude + canterbury.longitude) / 3)


@pytest.mark.parametrize(
    "location",
    [
        *("", " , ", ",", "Misspellt, Kent", "Kent", "Paris, France", "😀", "N/A"),
        # no town of the nation that is meant, or one cannot tell which nation that is
        *("Wales", "UK", "Misspellt, Wales", "Perth, England", "Perth, Australia", "Boston, USA", "Aberdeen, Cornwall"),
        *("Whitburn, Tyne and Waer", "Newport, Walse", "Newport, Walse, UK", "Hamilton, Leics"),
    ],
)
def test_what_no_rule_finds_is_none(location):
    assert Gazetteer().locate(location) is None


def test_the_order_of_listings_changes_nothing():
    listings = ["Dover, Kent", "Canterbury, Kent", "Ashford, Kent", "Margate, Kent", "Nowhere, Kent"] * 3
    assert Gazetteer(listings).locate("Nowhere, Kent") == Gazetteer(listings[::-1]).locate("Nowhere, Kent")


def test_the_network_is_never_asked(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    gazetteer.towns_by_name.cache_clear()
    assert near(Gazetteer(["Truro, Cornwall"]).locate("Truro, Cornwall"), *TRURO)


def test_the_distance_from_the_county_is_told():
    listings = ["Truro, Cornwall", "Penzance, Cornwall", "Gateshead, Cornwall"]
    distances = [Gazetteer(listings).locate(location).county_km for location in listings]
    assert max(distances[:2]) < 70 and distances[2] > 500
    assert Gazetteer([*listings, "Aberdeen, Cornwall"]).locate("Aberdeen, Cornwall").rule == "county mean"
    assert Gazetteer().locate("Truro, Nowhere").county_km == 0


def test_every_town_lies_in_the_islands_and_latitude_comes_first():
    towns = [town for name in ("london", "newport", "ashford", "hull") for town in towns_named(name)]
    assert len(towns) >= 10
    assert all(49 < latitude < 61 and -9 < longitude < 2 for latitude, longitude, _ in towns)
    assert near(Gazetteer().locate("London"), *LONDON)


def test_the_table_of_counties_is_near_to_towns_there():
    towns = {
        "bedfordshire": "Bedford", "berkshire": "Reading", "cambridgeshire": "Cambridge", "cornwall": "Truro",
        "cumbria": "Penrith", "devon": "Exeter", "dorset": "Dorchester", "essex": "Chelmsford", "fife": "Kirkcaldy",
        "gwynedd": "Dolgellau", "highland": "Inverness", "kent": "Maidstone", "lancashire": "Preston",
        "lincolnshire": "Lincoln", "norfolk": "Norwich", "powys": "Llandrindod Wells", "somerset": "Taunton",
        "suffolk": "Stowmarket", "surrey": "Guildford", "county tyrone": "Omagh", "isle of man": "Douglas",
    }  # fmt: skip
    for county, town in towns.items():
        place = Gazetteer().locate(f"{town}, {county}")
        assert near(place, *regions()[county][0], km=60), county
    assert all(place_key(name) == name for name in regions())


def test_each_county_has_the_nation_of_the_towns_around_it():
    towns = [town for name in ("newport", "richmond", "perth", "bangor", "aberdeen") for town in towns_named(name)]
    assert {nation for *_, nation in towns} == {"ENG", "WLS", "SCT", "NIR"}
    for county, (centre, nation) in regions().items():
        if centre:
            nearest = min(gazetteer.towns_by_name().values(), key=lambda towns: distance_km(*towns[0][:2], *centre))[0]
            assert nearest[2] == nation, county


def test_locations_are_split_at_the_commas():
    poole = (["poole", "dorset"], "dorset", None, "")
    assert split_location("Poole, Dorset") == split_location(" Poole ,, DORSET, ") == poole
    assert split_location("Leeds") == (["leeds"], "leeds", None, "")
    assert split_location("Leeds, England, UK") == (["leeds", "england", "united kingdom"], "leeds", "ENG", "")
    assert split_location("Leeds, W. Yorks, LS1") == (["leeds", "west yorkshire", "ls1"], "west yorkshire", None, "")
    assert split_location("Leeds, Nowhere, UK") == (["leeds", "nowhere", "united kingdom"], "nowhere", None, "nowhere")
    assert split_location("") == ([], "", None, "")
