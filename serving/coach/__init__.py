"""The parts of the language service: who talks to the engine, what a persona is, where it is kept, what suits it.

host.py       the one engine of the process, who waits for it, and the card's lease
talk.py       checks a conversation, streams the answer, keeps personal data out of it
persona.py    texts → vectors of 1,536 numbers; a user's words, tags and sliders → their profile
profiles.py   where profiles, topics' vectors and roadmaps are kept: SQLite, or PostgreSQL with pgvector
match.py      trends of the forecaster that are near a profile, and why
roadmap.py    a topic → competencies with books and courses of the catalogue
"""
