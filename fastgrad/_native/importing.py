"""The lock under which modules are imported that only a compilation needs.

A fork waits for it: what another thread is about to import at that moment would never be imported in the child.
"""

import threading

lock = threading.Lock()
