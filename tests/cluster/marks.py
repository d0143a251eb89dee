"""What a test needs; run.py leaves it out where that is not there, and says so.  And how it may be run."""


def needs(*what):
    def mark(fn):
        fn.needs = what
        return fn
    return mark


def long(fn):
    """Takes minutes: only with --long."""
    fn.long = True
    return fn


def alone(fn):
    """Measures rates, memory or processor time: nothing else runs beside it."""
    fn.alone = True
    return fn


def seeded(piece=5, daily=2, waits=False):
    """fn(lab, seeds) does something once for each seed and returns Times.  With --long there are 20 seeds, in pieces
    that run.py runs beside each other; waits: a piece mostly waits, so that more of them go at a time.  Otherwise
    there are `daily` of them."""
    def mark(fn):
        fn.piece, fn.daily, fn.waits = piece, daily, waits
        return fn
    return mark
