"""The shared vocabulary and the front door of Nightshift. Imports none of the rooms."""
