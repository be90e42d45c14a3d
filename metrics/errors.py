"""The errors that a user can cause. Each message says what was expected, what was found and what to do."""

from __future__ import annotations


class PokeBenchError(Exception):
    """Base of every error with a message for the user; the command line prints it without a traceback."""


class VideoError(PokeBenchError, ValueError):
    """A video value is not what a metric takes: shape, type, range, finiteness, frame or clip count."""


class WeightsError(PokeBenchError):
    """A weight file is missing, damaged or not the expected one."""


class CacheError(PokeBenchError, OSError):
    """The user cache cannot be written."""


class RegistryError(PokeBenchError, KeyError):
    """A name is unknown, registered twice, or registered with the wrong kind of object."""

    __str__ = Exception.__str__


class DataError(PokeBenchError):
    """A data set is missing, unreadable, or does not have the expected layout."""


class MethodError(PokeBenchError):
    """A method was asked for something that it does not do, or returned something that cannot be scored."""


class ProtocolError(PokeBenchError, ValueError):
    """A protocol or suite is not valid, or two results with different protocols were mixed."""


class RecordError(PokeBenchError):
    """A result record is damaged, of an unknown schema version, or cannot be written."""


class OutputError(PokeBenchError):
    """A file that a user asks for cannot be written."""


class TrainingError(PokeBenchError):
    """A training cannot start or go on: its plan is not valid, a checkpoint does not fit, or a loss is not finite."""


class ReportError(PokeBenchError):
    """A report cannot be made: a file that is to be in it is not what is expected, or it grows beyond its limit."""
