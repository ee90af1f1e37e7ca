"""One filmed person and all that is needed to dub them: the actor pack and the consent it carries."""
