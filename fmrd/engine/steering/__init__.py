"""Which tasks are meant: by their numbers, or by the tags that somebody gave to the verbs that began them."""
