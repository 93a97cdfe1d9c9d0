"""Everything that Nightshift raises on purpose.

    NightshiftError            one line for a person: what was wrong, where, what to do
    ├── SettingsError          a setting is missing or contradicts another
    ├── SourceError            a source has no such day, or its file cannot be read
    ├── ContractError          data does not follow its contract (names table, row, column, value)
    │   └── QuarantinedError   a staged day failed its audit and was moved to quarantine
    ├── LakeError              the lake has no such day, or holds a different one already
    ├── FeatureError           features are missing, stale, or not built for a day
    ├── RegistryError          MLflow is unreachable, or has no such version
    │   └── NoChampionError    nobody sits in the seat yet
    └── StackError             a process of the embedded stack did not start, or died

A command that meets one prints its text on one line and exits with 1; anything else is a bug
and shows its traceback.
"""


class NightshiftError(Exception):
    """Base of every error a user can meet; its text is meant for a person."""


class SettingsError(NightshiftError):
    pass


class SourceError(NightshiftError):
    pass


class ContractError(NightshiftError):
    pass


class QuarantinedError(ContractError):
    pass


class LakeError(NightshiftError):
    pass


class FeatureError(NightshiftError):
    pass


class RegistryError(NightshiftError):
    pass


class NoChampionError(RegistryError):
    pass


class StackError(NightshiftError):
    pass
