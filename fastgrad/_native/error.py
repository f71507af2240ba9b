"""What is raised where a program cannot be compiled."""


class CompilerError(RuntimeError):
    """A program could not be compiled: there is no compiler, or it failed."""


class NoCompiler(CompilerError):
    """There is no compiler."""


class TimeLimit(CompilerError):
    """The compiler took too long."""


class TooLong(CompilerError):
    """The text of a program would take a compiler too long."""
