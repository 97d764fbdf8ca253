# Installs what a board's runner is built from beside the Python package, as edgekit/_source, so that a user of the wheel
# needs a cross compiler and nothing else: the generated header and the FlatBuffers headers come along, flatc does not. With
# the presets beside them, that folder is a source tree for `cmake --preset BOARD` without Python.

install(
  FILES
    ${CMAKE_SOURCE_DIR}/CMakeLists.txt
    ${CMAKE_SOURCE_DIR}/CMakePresets.json
    ${CMAKE_SOURCE_DIR}/LICENSE
  DESTINATION edgekit/_source
)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/targets/toolchains DESTINATION edgekit/_source/targets)
install(
  DIRECTORY ${CMAKE_SOURCE_DIR}/csrc
  DESTINATION edgekit/_source
  PATTERN "bindings" EXCLUDE
  PATTERN "compress" EXCLUDE
)
install(FILES ${EDGEKIT_SCHEMA_DIR}/plan_generated.h DESTINATION edgekit/_source/include)
install(
  DIRECTORY ${EDGEKIT_FLATBUFFERS_INCLUDE}/flatbuffers
  DESTINATION edgekit/_source/include
  FILES_MATCHING
  PATTERN "*.h"
  PATTERN "pch" EXCLUDE
)
