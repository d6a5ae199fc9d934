"""What can go wrong. The messages are the library's: they name what was found, what was expected, and the way out."""


class SttabtError(Exception):
    """Every error of this package, but those of Python itself: `TypeError` for an input of another type."""


class InputError(SttabtError, ValueError):
    """An input, a rule, or an option does not fit the model. The message counts inputs and passages from 1."""


class ModelError(SttabtError, ValueError):
    """A file cannot be read, or holds something that is not supported."""


class DeviceError(SttabtError, RuntimeError):
    """There is no such device, it was lost, or its memory does not do. After a lost one, load the model again."""
