"""What processes side by side do in the tests: small enough to be begun quickly."""

import os
import signal
import time


def work(what, reporter):
    """Tell, fail, die, or go on for a long time."""
    reporter.send((what, os.getpid()))
    if what == "fails":
        reporter.send("x: failed")
    elif what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "goes on":
        time.sleep(600)
    elif what == "takes a second":
        time.sleep(1)
        reporter.send(("done", os.getpid()))
