"""Export: a function as C that needs nothing of fastgrad's."""
