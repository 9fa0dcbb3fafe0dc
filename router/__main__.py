"""``python -m router`` is ``millrace router``."""

from router.command import router

router(prog_name="millrace router")
