"""The error of a user's mistake."""


class StudyError(Exception):
    """A user's mistake, in one clear sentence.

    The sentence names the file, the line or the key, and what was expected. The command line
    prints it without a traceback and exits with 2; notebooks show it alone.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython and papermill ask for this, and then leave the traceback out.
        return [f"StudyError: {self}"]
