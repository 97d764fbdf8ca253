# find_package(edgekit) finds the targets edgekit::edgekit, the shared library, and edgekit::static, which needs a C++
# linker of the same compiler family.
include(CMakeFindDependencyMacro)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_dependency(Threads)

get_filename_component(_edgekit_lib ${CMAKE_CURRENT_LIST_DIR}/../.. ABSOLUTE)
get_filename_component(_edgekit_include ${_edgekit_lib}/../include ABSOLUTE)
if(NOT TARGET edgekit::edgekit)
  add_library(edgekit::edgekit SHARED IMPORTED)
  set_target_properties(
    edgekit::edgekit
    PROPERTIES
      IMPORTED_LOCATION ${_edgekit_lib}/libedgekit.so
      INTERFACE_INCLUDE_DIRECTORIES ${_edgekit_include}
  )
  add_library(edgekit::static STATIC IMPORTED)
  set_target_properties(
    edgekit::static
    PROPERTIES
      IMPORTED_LOCATION ${_edgekit_lib}/libedgekit.a
      IMPORTED_LINK_INTERFACE_LANGUAGES CXX
      INTERFACE_INCLUDE_DIRECTORIES ${_edgekit_include}
      INTERFACE_LINK_LIBRARIES Threads::Threads
  )
endif()
unset(_edgekit_lib)
unset(_edgekit_include)
