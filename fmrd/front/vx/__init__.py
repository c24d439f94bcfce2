"""fmrd-vx: the commands of VERITAS Volume Manager as they were typed there, over fmrd's own verbs."""
