"""``MANIFEST.yaml``: which files a dataset consists of, and the checksums that they must have.

The document and its MD5 checksums are those of labinform-datasafe 0.1.0b1, which reads what is
written here, and the other way round. Beside them stand SHA-256 digests of each file, which that
package does not look at: they alone tell which file differs, and withstand forgery.
"""

from kvstore.manifest.checking import Verification as Verification
from kvstore.manifest.checking import build as build
from kvstore.manifest.checking import check as check
from kvstore.manifest.checking import read as read
from kvstore.manifest.checking import sums_of_all as sums_of_all
from kvstore.manifest.checking import verify as verify
from kvstore.manifest.checking import write as write
from kvstore.manifest.document import MAX_BYTES as MAX_BYTES
from kvstore.manifest.document import MAX_FILES as MAX_FILES
from kvstore.manifest.document import Manifest as Manifest
from kvstore.manifest.document import MetadataFile as MetadataFile
from kvstore.manifest.files import Files as Files
from kvstore.manifest.files import FolderFiles as FolderFiles
from kvstore.manifest.files import StoreFiles as StoreFiles
from kvstore.manifest.sums import Sums as Sums
from kvstore.manifest.sums import checksum_of as checksum_of
from kvstore.manifest.sums import summed as summed
from kvstore.manifest.sums import sums_of as sums_of
from kvstore.manifest.yamltext import FILE_NAME as FILE_NAME
