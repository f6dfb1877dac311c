"""Other stream engines that do the bare loop's work, each in an environment of its own and in its documented best set-up."""
