"""What the nodes tell whoever hands out work. Each is sent once, inside the transaction of the change, with `names`."""

from django.dispatch import Signal

# Nodes appeared, returned, or may be given work again.
node_arrived = Signal()
# Nodes say otherwise than before what they may run, or that they leave.
node_changed = Signal()
