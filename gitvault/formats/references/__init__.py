"""The other files that a file names: where in its bytes each name stands, how it is written, and written anew.

spans       a name, the bytes it takes in a file, and files with some of them replaced
paths       what a name means on disk, and how another path is written in the same way
packets     what asset managers keep in a file: XMP
gltf  kra  markup  maya  psd  usd  wavefront  engines
            the families
"""
