# Checks the object code of the kernels that are built for special instruction sets. Run as
#   cmake -DOBJECTS=<object|object...> -DOBJDUMP=<path> -DNM=<path> -P check_objects.cmake
#
# - Accumulators stay in registers: an x86_avx512vnni kernel moves no vector to or from the stack. (GCC 12 does so
#   with the vpdpbusd intrinsic: half the speed, no warning.) In the x86_avxvnni and the Arm matrix kernels, whose
#   epilogues do pass sums through memory, it is the innermost loop of a full tile that keeps its vectors off the
#   stack, and on Arm never touches it.
# - An x86_amx kernel multiplies four tiles in a row and moves no vector to or from the stack meanwhile.
# - An x86_avxvnni kernel has no instruction of AVX-512, which the assembler would choose for vpdpbusd by itself.
# - Nothing leaks: such an object defines no weak symbol, since the linker could give its copy of an inline function
#   to code that runs on every CPU.

string(REPLACE "|" ";" objects "${OBJECTS}")
list(FILTER objects INCLUDE REGEX "/kernels/[^/]+/(x86|arm)_[^/]*\\.o(bj)?$")
if(NOT objects)
  message(FATAL_ERROR "no object of a special instruction set among: ${OBJECTS}")
endif()

# check_loop(object code instruction count): a stretch of code without branches that has at least `count` times the
# instruction exists, and none of them touches the stack. A stretch whose branch goes back into it is a loop, and begins
# where that goes: what leads to the loop is not counted.
function(check_loop object code instruction count)
  set(branch "\n[^\n]*\t(b|b\\.[a-z]+|bl|br|blr|cbn?z|tbn?z|j[a-z]+|call|ret)(([ \t][^\n]*)?)\n")
  string(REPLACE ";" "," code "${code}")
  string(REGEX REPLACE "${branch}" "\nthen\\2\n;" stretches "${code}")
  set(loops 0)
  foreach(stretch IN LISTS stretches)
    if(stretch MATCHES "\nthen[^\n]*[ \t](0x)?([0-9a-f]+) <[^\n]*\n$")
      string(REGEX REPLACE "^.*\n *(${CMAKE_MATCH_2}:)" "\\1" stretch "${stretch}")
    endif()
    string(REGEX MATCHALL "[\t ]${instruction}[ \t]" multiplies "${stretch}")
    list(LENGTH multiplies multiply_count)
    if(multiply_count LESS count)
      continue()
    endif()
    math(EXPR loops "${loops} + 1")
    string(
      REGEX MATCHALL
        "[^\n]*(\\[sp|[yz]mm[^\n]*(\\(%rsp|-0x[0-9a-f]+\\(%rbp)|(\\(%rsp|-0x[0-9a-f]+\\(%rbp)[^\n]*[yz]mm)[^\n]*"
      moves
      "${stretch}"
    )
    if(moves)
      message(SEND_ERROR "${object} spills in a loop: ${moves}")
    endif()
  endforeach()
  if(loops EQUAL 0)
    message(SEND_ERROR "${object} has no loop of ${count} ${instruction}: is this the kernel?")
  endif()
  message(STATUS "${object}: ${loops} stretches of at least ${count} ${instruction}")
endfunction()

# LLVM's objdump shows instructions of Armv8.2 only where it is asked to.
set(every_instruction)
if(OBJDUMP MATCHES "llvm")
  set(every_instruction --mattr=+dotprod,+i8mm)
endif()

set(failures 0)
foreach(object IN LISTS objects)
  execute_process(
    COMMAND ${NM} -C --defined-only ${object}
    OUTPUT_VARIABLE symbols
    COMMAND_ERROR_IS_FATAL ANY
  )
  string(REGEX MATCHALL "[^\n]* [VvWwu] [^\n]*" weak "${symbols}")
  foreach(symbol IN LISTS weak)
    message(SEND_ERROR "${object} lends a weak symbol to the whole program: ${symbol}")
    math(EXPR failures "${failures} + 1")
  endforeach()

  # Elementwise operators, pools, softmax and what makes and finishes codes of 16 bits multiply no codes, and keep blocks and
  # constants in memory by design.
  if(
    object MATCHES "/x86_avx512vnni\\."
    AND NOT object MATCHES "/(float_vector|nibble_floats|wide|elementwise|pool|softmax)/"
  )
    execute_process(
      COMMAND ${OBJDUMP} -d --no-show-raw-insn ${object}
      OUTPUT_VARIABLE code
      COMMAND_ERROR_IS_FATAL ANY
    )
    set(instruction vpdpbusd)
    if(object MATCHES "/float_")
      set(instruction vfmadd)
    endif()
    string(REGEX MATCHALL "${instruction}[^\n]*%zmm" multiplies "${code}")
    list(LENGTH multiplies multiply_count)
    if(multiply_count EQUAL 0)
      message(SEND_ERROR "${object} has no ${instruction} on 512 bits: is this the kernel?")
      math(EXPR failures "${failures} + 1")
    endif()
    string(
      REGEX MATCHALL
        "vmov[a-z0-9]*[ \t]+([^\n]*%zmm[0-9]+,[^\n]*\\(%r[sb]p[^\n]*|[^\n]*\\(%r[sb]p[^\n]*%zmm[^\n]*)"
      moves
      "${code}"
    )
    list(LENGTH moves move_count)
    message(
      STATUS
      "${object}: ${multiply_count} ${instruction}, ${move_count} vector moves to or from the stack"
    )
    if(move_count GREATER 0)
      message(SEND_ERROR "${object} spills accumulators: ${moves}")
      math(EXPR failures "${failures} + 1")
    endif()
  endif()

  if(object MATCHES "/gemm/x86_amx\\.")
    execute_process(
      COMMAND ${OBJDUMP} -d --no-show-raw-insn ${object}
      OUTPUT_VARIABLE code
      COMMAND_ERROR_IS_FATAL ANY
    )
    # A chunk of two by two tiles is a stretch without a branch.
    check_loop(${object} "${code}" tdpbusd 4)
  endif()

  if(object MATCHES "/x86_avxvnni\\.")
    execute_process(
      COMMAND ${OBJDUMP} -d --no-show-raw-insn ${object}
      OUTPUT_VARIABLE code
      COMMAND_ERROR_IS_FATAL ANY
    )
    check_loop(${object} "${code}" vpdpbusd 12)
    if(code MATCHES "[^}]\tvpdpbusd|%zmm|%ymm(1[6-9]|[23][0-9])|%k[0-7]")
      message(SEND_ERROR "${object} has instructions of AVX-512: ${CMAKE_MATCH_0}")
      math(EXPR failures "${failures} + 1")
    endif()
  endif()

  if(object MATCHES "/(sparse_)?gemm/arm_" AND NOT object MATCHES "/arm_neon_store\\.")
    execute_process(
      COMMAND ${OBJDUMP} -d --no-show-raw-insn ${every_instruction} ${object}
      OUTPUT_VARIABLE code
      COMMAND_ERROR_IS_FATAL ANY
    )
    if(object MATCHES "/sparse_gemm/arm_neondot\\.")
      check_loop(${object} "${code}" sdot 48)
    elseif(object MATCHES "/arm_neondot\\.")
      check_loop(${object} "${code}" sdot 96)
    elseif(object MATCHES "/arm_neon_pairs\\.")
      check_loop(${object} "${code}" smlal2 8)
    elseif(object MATCHES "/arm_i8mm\\.")
      check_loop(${object} "${code}" smmla 48)
    else()
      check_loop(${object} "${code}" smlal2 16)
    endif()
  endif()
endforeach()
list(LENGTH objects count)
message(STATUS "${count} objects checked, ${failures} findings")
