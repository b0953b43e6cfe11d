"""Integer programs rendered as source code of other machines."""
