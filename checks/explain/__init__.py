"""Why a config is where it is, whether it runs there, what happened to it, and what needs somebody. Nothing here writes."""
