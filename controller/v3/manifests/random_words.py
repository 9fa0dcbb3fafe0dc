"""Words for random routes: ``brave-otter-xy``. Some six million of them."""

from __future__ import annotations

import string
from types import ModuleType
from typing import Final

_LIKE: Final = (
    "agile amber balmy bold brave brisk bright busy calm candid cheery chilly clever cosmic cozy crisp curious dapper "
    "daring dreamy eager early easy exact fair fancy fast fine fluent fond frank fresh friendly funny gentle glad "
    "golden grand great green happy hardy honest humble icy jolly keen kind lively loud lucky lunar mellow merry mild "
    "modest neat nimble noble odd patient plain polite proud pure quick quiet rapid ready relaxed rich rosy royal "
    "serene sharp shiny silent silver sleek smart smooth snowy solar solid sound spry steady still stout sunny swift "
    "tall tame tidy tranquil true upbeat vivid warm wild wise witty young zesty"
)
_THINGS: Final = (
    "alpaca antelope badger bear beaver bison bonobo camel capybara cassowary cat cheetah chipmunk civet crane cricket "
    "dingo dolphin dove dugong eagle echidna eland elk emu falcon ferret finch fox gazelle gecko gibbon giraffe gnu "
    "goat goose grouse hare hawk hedgehog heron hippo hyena ibex impala jackal jaguar kangaroo kestrel koala kudu "
    "lemur leopard llama lynx magpie marmot meerkat mole mongoose moose mouse newt numbat ocelot okapi oribi oryx "
    "otter owl panda panther parrot pelican penguin platypus puffin puma quail quokka rabbit raccoon raven robin "
    "salmon seal serval shark sloth sparrow squirrel stork swan tapir toucan turtle vole wallaby walrus weasel whale "
    "wolf wombat yak zebra"
)


def two_words(generator: ModuleType) -> str:
    """With two letters behind them."""
    letters = "".join(generator.choices(string.ascii_lowercase, k=2))
    return f"{generator.choice(_LIKE.split())}-{generator.choice(_THINGS.split())}-{letters}"
