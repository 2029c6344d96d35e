"""The account that runs the tests, as owner of files that they write."""

import grp
import os
import pwd

OWNER, GROUP = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
