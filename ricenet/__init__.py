"""ricenet: radiation-induced contrast enhancement or glioblastoma recurrence, from two MRIs and the radiotherapy dose.

Research use only. Every stage is a command, `python -m ricenet.<stage>`; stages meet at files and never import one
another.
"""

__version__ = "0.1.0"

# Channel order of every volume, batch and figure: post-OP MRI, event MRI, radiotherapy dose. A cohort's further MRIs,
# as far as its configs name any (ricenet.cohort.channels), come behind these.
MODALITIES = ("post", "event", "rd")
# Index = class id. Ground truth of the paper is biopsy; RICE is the positive class.
LABELS = ("recurrence", "rice")
