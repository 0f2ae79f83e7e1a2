"""Who clients are: checkers of passwords, tokens and certificates behind the mechanisms of AUTH."""
