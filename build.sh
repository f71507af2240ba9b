cd /tmp/w3 && /tmp/dev/bin/python setup.py build_ext --inplace 2>&1 | grep -iE "error|warning:" -A7
