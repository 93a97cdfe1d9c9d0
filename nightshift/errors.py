"""Everything that Nightshift raises on purpose.

    NightshiftError            one line for a person: what was wrong, where, what to do
    ├── SettingsError          a setting is missing or contradicts another
    ├── SourceError            a source has no such day, or its file cannot be read
    │   └── NothingNewError    the source has no day that was not taken in: not a failure, nothing to do
    ├── ContractError          data does not follow its contract (names table, row, column, value)
    │   └── QuarantinedError   a staged day failed its audit and was moved to quarantine
    ├── LakeError              the lake has no such day, or holds a different one already
    │   └── NoDataError        a seat has too little data, or no family: not a failure, it is left out
    ├── StoreError             what machines share cannot be reached, or holds something damaged (names the URL)
    ├── FeatureError           features are missing, stale, or not built for a day
    ├── TeamError              a process of a shared training ended, or says nothing any more
    ├── BaseModelError         the language seat's base model cannot be had, or an adapter does not fit it
    ├── EventLogError          the event log cannot be read or written; nothing was stored
    ├── RegistryError          MLflow is unreachable, or has no such version
    │   ├── NoChampionError    nobody sits in the seat yet
    │   └── PackageError       a version's packaged model cannot be loaded
    ├── StackError             a process of the embedded stack did not start, or died
    ├── BackupError            a backup cannot be made, is not whole, or cannot be restored there
    └── UpgradeError           the state is of a newer version than this one, or could not be brought up to it

A command that meets one prints its text on one line and exits with its `exit_status`; anything else is a
bug and shows its traceback.
"""

DATA_ERROR = 65  # sysexits.h EX_DATAERR: the same data fail the same way again, so nobody should retry


class NightshiftError(Exception):
    """Base of every error a user can meet; its text is meant for a person."""

    exit_status = 1


class SettingsError(NightshiftError):
    pass


class SourceError(NightshiftError):
    exit_status = DATA_ERROR


class NothingNewError(SourceError):
    exit_status = 99  # Airflow's BashOperator marks a task with this status as skipped


class ContractError(NightshiftError):
    exit_status = DATA_ERROR


class QuarantinedError(ContractError):
    pass


class LakeError(NightshiftError):
    pass


class NoDataError(LakeError):
    exit_status = 99  # as above: skipped, not failed


class StoreError(NightshiftError):
    pass


class FeatureError(NightshiftError):
    pass


class TeamError(NightshiftError):
    pass


class BaseModelError(NightshiftError):
    pass


class EventLogError(NightshiftError):
    pass


class RegistryError(NightshiftError):
    pass


class NoChampionError(RegistryError):
    pass


class PackageError(RegistryError):
    pass


class StackError(NightshiftError):
    pass


class BackupError(NightshiftError):
    pass


class UpgradeError(NightshiftError):
    pass
