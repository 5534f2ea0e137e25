"""A trained run as a device model: what it is fitted to, codes of its items, and the files of other programs."""
