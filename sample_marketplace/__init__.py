"""How the sample marketplace is written and drawn; make_sample_marketplace.py puts it into a data folder."""
