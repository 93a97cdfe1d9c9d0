"""`market`, the built-in simulator: a small world with planted structure, the default source.

What is planted: latent tastes (category, style, price), Zipf-like popularity, who comes on which weekday, a
season per category, new users and items every day, tastes that slowly wander, and from
`settings.market_drift_day` on a drift: most users' tastes move to other categories, they come on mobile, their
sessions shorten and they look at cheaper things. Beside it, topics whose weekly indicators lead one another, and
boom from the same day on; and what people say to a career coach, which follows from planted work values. A day
depends on the seed and its date alone.

    words.py       what titles and topics are made of    world.py   users, items, true affinity
    visits.py      one day of behaviour                  source.py  the day as contract tables; choices and truth
    indicators.py  the topics' weeks         talk.py    conversations, and what people want of work
    phrases.py     the sentences they are made of
"""

from nightshift.sources.market.source import Market

__all__ = ["Market"]
