"""The paper's experiments on our own footage: what seconds of data, the prior and each part are worth.

Quality studies, not timings: each condition is one adaptation, scored on the end of a clip that no condition
learns from. A study resumes where it was stopped.
"""
