"""What a test needs; run.py leaves it out where that is not there, and says so."""


def needs(*what):
    def mark(fn):
        fn.needs = what
        return fn
    return mark


def long(fn):
    """Takes minutes: only with --long."""
    fn.long = True
    return fn
