"""A made-up shop of any size, the same for the same seed, with the dirt that real shops have."""

from datetime import datetime
from zoneinfo import ZoneInfo

from sandbox.estar.generate_customers import customers
from sandbox.estar.generate_dice import Dice
from sandbox.estar.generate_orders import place_orders
from sandbox.estar.generate_products import products
from sandbox.estar.state import Shop

DEFAULT_SIZE = 500
DEFAULT_NOW = datetime(2026, 1, 1)  # noqa: DTZ001 - naive, in the shop's zone


def generate(size: int, seed: int, zone: ZoneInfo, now: datetime = DEFAULT_NOW) -> Shop:
    """A shop with two years of history.

    From about 200 customers on, every kind of dirt is there; a smaller shop has what fits.

    Args:
        size: customers, at least 1; about half as many products and twice as many orders.
        seed: the same seed gives the same shop, byte for byte.
        zone: the shop's time zone.
        now: the end of its history, naive, in its zone.
    """
    dice = Dice(seed, now)
    shop = Shop(zone)
    for customer in customers(dice, size):
        shop.customers.add(customer)
    for product in products(dice, max(1, size // 2)):
        shop.products.add(product)
    place_orders(dice, shop, size * 2)
    return shop
