#include "compress/crew.h"

#include <stdexcept>

namespace edgekit::compress {

Crew::Crew(size_t threads) {
  std::string error;
  Threads wanted;
  wanted.count = threads;
  pool_ = ThreadPool::create(wanted, &error);
  if (pool_ == nullptr) throw std::runtime_error(error);
}

}  // namespace edgekit::compress
