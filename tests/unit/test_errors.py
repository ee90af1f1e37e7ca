import inspect

import pytest

from engine import errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_documented_and_descends_from_one_base(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.LivedubError)
    assert kind.__doc__
    assert kind.__name__ in (errors.__doc__ or "")
    with pytest.raises(errors.LivedubError, match="said"):
        raise kind("said")


@pytest.mark.parametrize(
    "kind", [errors.MediaError, errors.NoFaceError, errors.ActorPackError, errors.OutputError]
)
def test_what_the_user_can_repair_is_an_input_error(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.InputError)


def test_what_the_machine_lacks_is_not() -> None:
    assert issubclass(errors.BackendUnavailable, errors.BackendError)
    assert not issubclass(errors.BackendError, errors.InputError)
    assert not issubclass(errors.AssetError, errors.InputError)
    assert not issubclass(errors.LivedubError, (ValueError, TypeError))
