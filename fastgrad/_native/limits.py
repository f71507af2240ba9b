"""What both the text of a program and the key of its file on disk depend on."""

CONSTANT_BYTES = 512  # larger constants are not written into the text
