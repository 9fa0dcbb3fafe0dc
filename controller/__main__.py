"""``python -m controller``."""

from controller.command import controller

controller(prog_name="millrace controller")
