"""What lies in the folder that `split` writes."""

HEAD, TAIL, SUMMARY = "head", "tail", "split.json"
# The key in ``origin.split`` of a head's manifest that names the SHA-256 of the plan that its outputs are for.
TAIL_PLAN = "tail_plan"
