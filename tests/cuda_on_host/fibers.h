// What the scheduler of fibers.cpp asks of a search for races.
#pragma once

#include <cstddef>

// One search at a time. Every call comes from the thread that launched.
class Search {
 public:
  virtual ~Search() = default;
  // The threads that take their steps together: the lanes of a warp, or each for itself.
  virtual unsigned unit() const = 0;
  // A random number below `count`.
  virtual unsigned choose(unsigned count) = 0;
  virtual void begin_block() = 0;
  // After every step of a unit.
  virtual void between() = 0;
  // All threads of the block are at a barrier.
  virtual void meet() = 0;
};

extern Search* search;  // none: threads run in their order, as far as they come

// The thread that takes a step, or -1 between the steps; whether an address is of its own stack.
int running_thread();
bool on_running_stack(const void* address);
