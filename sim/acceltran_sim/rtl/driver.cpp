// Runs programs on the generated Verilog: a host on AXI4-Lite and a memory on AXI4.
//
// Usage: driver KEY=VALUE ...   (numbers may be 0x...)
// Reads the memory image, does what the script says, and writes image and results back. A line of
// the script is one of
//   write ADDRESS VALUE     a register
//   run                     wait for the interrupt; gives "interrupt 1", or 0 at the limit of cycles
//   read ADDRESS            a register; gives "ADDRESS VALUE"
//   stop_if ADDRESS MASK    the script ends here if the register has a bit of MASK set
// Progress lines go to stdout: number of the run, commands done, cycles. With trace=FILE, each start
// and end of a command gives a line there: queue, 0 or 1, and the counters in their order.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "Vacceltran.h"
#include "verilated.h"
#include "verilated_syms.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define AXI_PORTS(DO, PREFIX) \
    DO(PREFIX, arvalid) DO(PREFIX, arready) DO(PREFIX, araddr) DO(PREFIX, arlen) \
    DO(PREFIX, arsize) DO(PREFIX, arburst) DO(PREFIX, arid) \
    DO(PREFIX, rvalid) DO(PREFIX, rready) DO(PREFIX, rdata) DO(PREFIX, rid) DO(PREFIX, rresp) \
    DO(PREFIX, rlast) \
    DO(PREFIX, awvalid) DO(PREFIX, awready) DO(PREFIX, awaddr) DO(PREFIX, awlen) \
    DO(PREFIX, awsize) DO(PREFIX, awburst) DO(PREFIX, awid) \
    DO(PREFIX, wvalid) DO(PREFIX, wready) DO(PREFIX, wdata) DO(PREFIX, wstrb) DO(PREFIX, wlast) \
    DO(PREFIX, bvalid) DO(PREFIX, bready) DO(PREFIX, bid) DO(PREFIX, bresp)

namespace {

constexpr unsigned BUS_BYTES = AXI_DATA_BITS / 8;
constexpr uint64_t PAGE = 4096;
constexpr uint8_t OKAY = 0, DECERR = 3;

struct Options {
    std::map<std::string, std::string> values;
    Options(int argc, char** argv) {
        for (int n = 1; n < argc; ++n) {
            const std::string text = argv[n];
            const auto split = text.find('=');
            if (text[0] == '+' || split == std::string::npos) continue;
            values[text.substr(0, split)] = text.substr(split + 1);
        }
    }
    bool has(const std::string& key) const { return values.count(key); }
    std::string text(const std::string& key) const {
        const auto found = values.find(key);
        if (found == values.end()) {
            std::fprintf(stderr, "driver: option %s is missing\n", key.c_str());
            std::exit(1);
        }
        return found->second;
    }
    uint64_t number(const std::string& key) const { return std::stoull(text(key), nullptr, 0); }
    double real(const std::string& key) const { return std::stod(text(key)); }
};

// Verilator's ports are integers up to 64 bits and arrays of 32-bit words above.
template <typename T> void put_bytes(T& port, const uint8_t* bytes) {
    std::memcpy(&port, bytes, BUS_BYTES);
}
template <typename T> void get_bytes(const T& port, uint8_t* bytes) {
    std::memcpy(bytes, &port, BUS_BYTES);
}
template <typename T> bool get_bit(const T& port, unsigned index) {
    uint8_t bytes[sizeof(T)];
    std::memcpy(bytes, &port, sizeof(T));
    return bytes[index / 8] >> (index % 8) & 1;
}

struct Burst {
    uint64_t address;
    unsigned beats, size, id;
    uint64_t ready_at;
};

// What trace.vlt makes visible: command queues and counters.
class Trace {
  public:
    Trace(const Options& options, VerilatedContext* context) {
        if (!options.has("trace")) return;
        file_.open(options.text("trace"));
        std::istringstream queues(options.text("queues")), counters(options.text("counters"));
        static const uint8_t always = 1;
        for (std::string name; std::getline(queues, name, ',');) {
            const std::string scope = "TOP.acceltran.core." + name;
            if (context->scopeFind((scope + "_queue").c_str()))
                queues_.push_back({find<uint8_t>(context, scope + "_queue", "o__valid"),
                                   find<uint8_t>(context, scope + "_queue", "o__ready"),
                                   find<uint8_t>(context, scope + "_queue", "done")});
            else  // in the nodes: the first begins, and all end
                queues_.push_back({find<uint8_t>(context, scope + "_completion", "begun"), &always,
                                   find<uint8_t>(context, scope + "_completion", "done")});
        }
        for (std::string name; std::getline(counters, name, ',');)
            counters_.push_back(find<uint64_t>(context, "TOP.acceltran.counters", name + "_total"));
    }
    // What happens at the coming clock edge.
    void sample() {
        for (size_t n = 0; n < queues_.size(); ++n) {
            if (*queues_[n].done) write(n, 1);
            if (*queues_[n].valid && *queues_[n].ready) write(n, 0);
        }
    }
    void begin_run() {
        if (file_.is_open()) file_ << "run\n";
    }

  private:
    struct Queue {
        const uint8_t *valid, *ready, *done;
    };
    template <typename T>
    static const T* find(VerilatedContext* context, const std::string& scope,
                         const std::string& name) {
        const VerilatedScope* place = context->scopeFind(scope.c_str());
        VerilatedVar* signal = place ? place->varFind(name.c_str()) : nullptr;
        if (!signal || signal->totalSize() != sizeof(T)) {
            std::fprintf(stderr, "driver: no signal %s.%s\n", scope.c_str(), name.c_str());
            std::exit(1);
        }
        return static_cast<const T*>(signal->datap());
    }
    void write(size_t queue, int ended) {
        file_ << queue << " " << ended;
        for (const uint64_t* counter : counters_) file_ << " " << *counter;
        file_ << "\n";
    }
    std::ofstream file_;
    std::vector<Queue> queues_;
    std::vector<const uint64_t*> counters_;
};

// Ports of one AXI master; all masters have the same ones.
struct Ports {
#define MEMBER(PREFIX, NAME) decltype(Vacceltran::JOIN(AXI_FIRST, NAME)) NAME;
    AXI_PORTS(MEMBER, )
#undef MEMBER
};

[[noreturn]] void fail(const char* what, unsigned address) {
    std::fprintf(stderr, "driver: %s at 0x%x\n", what, address);
    std::exit(1);
}

class Stalls {
  public:
    explicit Stalls(const Options& options)
        : random_(options.number("seed")), stall_(options.real("stall")) {}
    bool operator()() { return stall_ > 0 && uniform_(random_) < stall_; }

  private:
    std::mt19937_64 random_;
    std::uniform_real_distribution<double> uniform_{0.0, 1.0};
    double stall_;
};

// DRAM, which all masters share.
struct Memory {
    explicit Memory(const Options& options)
        : base(options.number("base")), latency(options.number("latency")) {
        std::ifstream file(options.text("image"), std::ios::binary);
        bytes.assign(std::istreambuf_iterator<char>(file), {});
    }
    bool holds(uint64_t address) const { return address >= base && address - base < bytes.size(); }
    std::vector<uint8_t> bytes;
    uint64_t base, latency;
};

// What answers one master.
class Slave {
  public:
    Slave(const Ports& ports, Memory& memory, Stalls& stalled)
        : ports_(ports), memory_(memory), stalled_(stalled) {
        ports_.arready = ports_.awready = ports_.wready = 0;
        ports_.rvalid = ports_.bvalid = 0;
    }

    // Sample the handshakes that the coming clock edge completes.
    void serve(uint64_t cycle) {
        if (ports_.arvalid && ports_.arready) {
            check_burst(ports_.araddr, ports_.arlen, ports_.arsize, ports_.arburst);
            reads_.push_back({ports_.araddr, ports_.arlen + 1u, ports_.arsize,
                              static_cast<unsigned>(ports_.arid), cycle + memory_.latency});
        }
        if (ports_.rvalid && ports_.rready) {
            Burst& burst = reads_.front();
            burst.address = (burst.address & ~uint64_t(BUS_BYTES - 1)) + BUS_BYTES;
            if (--burst.beats == 0) reads_.pop_front();
            read_offered_ = false;
        }
        if (ports_.awvalid && ports_.awready) {
            check_burst(ports_.awaddr, ports_.awlen, ports_.awsize, ports_.awburst);
            writes_.push_back({ports_.awaddr, ports_.awlen + 1u, ports_.awsize,
                               static_cast<unsigned>(ports_.awid), 0});
        }
        if (ports_.wvalid && ports_.wready) {
            std::vector<uint8_t> bytes(BUS_BYTES);
            get_bytes(ports_.wdata, bytes.data());
            std::vector<bool> strobes(BUS_BYTES);
            for (unsigned n = 0; n < BUS_BYTES; ++n) strobes[n] = get_bit(ports_.wstrb, n);
            beats_.push_back({bytes, strobes, bool(ports_.wlast)});
        }
        if (ports_.bvalid && ports_.bready) {
            responses_.pop_front();
            response_offered_ = false;
        }
        while (!writes_.empty() && !beats_.empty()) {
            Burst& burst = writes_.front();
            const Beat& beat = beats_.front();
            const uint64_t start = burst.address & ~uint64_t(BUS_BYTES - 1);
            for (unsigned n = 0; n < BUS_BYTES; ++n) {
                if (!beat.strobes[n]) continue;
                write_failed_ |= !memory_.holds(start + n);
                if (!memory_.holds(start + n)) continue;
                memory_.bytes[start + n - memory_.base] = beat.bytes[n];
            }
            burst.address = start + BUS_BYTES;
            if (beat.last != (burst.beats == 1)) fail("wlast is wrong", 0);
            if (--burst.beats == 0) {
                const uint8_t code = write_failed_ ? DECERR : OKAY;
                responses_.push_back({burst.id, code, cycle + memory_.latency});
                write_failed_ = false;
                writes_.pop_front();
            }
            beats_.pop_front();
        }
    }

    // New values of the memory's outputs, after the edge. An offer stays until it is taken.
    void update(uint64_t cycle) {
        ports_.arready = reads_.size() < 16 && !stalled_();
        ports_.awready = writes_.size() < 16 && !stalled_();
        ports_.wready = beats_.size() < 16 && !stalled_();
        if (!read_offered_ && !reads_.empty() && reads_.front().ready_at <= cycle && !stalled_()) {
            const Burst& burst = reads_.front();
            const uint64_t start = burst.address & ~uint64_t(BUS_BYTES - 1);
            uint8_t bytes[BUS_BYTES] = {};
            bool good = true;
            for (unsigned n = 0; n < BUS_BYTES; ++n) {
                if (memory_.holds(start + n)) bytes[n] = memory_.bytes[start + n - memory_.base];
                else if (start + n >= burst.address) good = false;
            }
            put_bytes(ports_.rdata, bytes);
            ports_.rid = burst.id;
            ports_.rresp = good ? OKAY : DECERR;
            ports_.rlast = burst.beats == 1;
            read_offered_ = true;
        }
        ports_.rvalid = read_offered_;
        if (!response_offered_ && !responses_.empty() &&
            responses_.front().ready_at <= cycle && !stalled_()) {
            ports_.bid = responses_.front().id;
            ports_.bresp = responses_.front().code;
            response_offered_ = true;
        }
        ports_.bvalid = response_offered_;
    }

  private:
    void check_burst(uint64_t address, unsigned length, unsigned size, unsigned burst) {
        if ((1u << size) != BUS_BYTES || burst != 1) fail("burst is not full-width INCR", 0);
        const uint64_t last = (address & ~uint64_t(BUS_BYTES - 1)) + length * BUS_BYTES;
        if (address / PAGE != last / PAGE) fail("burst crosses 4 KiB", 0);
    }

    struct Beat {
        std::vector<uint8_t> bytes;
        std::vector<bool> strobes;
        bool last;
    };
    struct Response {
        unsigned id;
        uint8_t code;
        uint64_t ready_at;
    };

    Ports ports_;
    Memory& memory_;
    Stalls& stalled_;
    std::deque<Burst> reads_, writes_;
    std::deque<Beat> beats_;
    std::deque<Response> responses_;
    bool read_offered_ = false, response_offered_ = false, write_failed_ = false;
};

class Machine {
  public:
    Machine(const Options& options, VerilatedContext* context)
        : top_(new Vacceltran{context}), trace_(options, context), stalled_(options),
          memory_(options) {
#define BIND(PREFIX, NAME) top_->PREFIX##NAME,
#define MASTER(PREFIX) slaves_.emplace_back(Ports{AXI_PORTS(BIND, PREFIX)}, memory_, stalled_);
#include "masters.inc"
        top_->aclk = 0;
        top_->aresetn = 0;
        top_->s_axil_awprot = top_->s_axil_arprot = 0;
        top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_bready = 0;
        top_->s_axil_arvalid = top_->s_axil_rready = 0;
        for (int n = 0; n < 4; ++n) tick();
        top_->aresetn = 1;
        tick();
    }
    ~Machine() { top_->final(); }

    void write_register(unsigned address, uint32_t value) {
        bool sent_address = false, sent_data = false;
        top_->s_axil_wstrb = 0xf;
        top_->s_axil_bready = 0;
        while (!(sent_address && sent_data)) {
            if (!top_->s_axil_awvalid) top_->s_axil_awvalid = !sent_address && !stalled_();
            if (!top_->s_axil_wvalid) top_->s_axil_wvalid = !sent_data && !stalled_();
            top_->s_axil_awaddr = address;
            top_->s_axil_wdata = value;
            top_->eval();
            const bool address_taken = top_->s_axil_awvalid && top_->s_axil_awready;
            const bool data_taken = top_->s_axil_wvalid && top_->s_axil_wready;
            tick();
            if (address_taken) sent_address = true, top_->s_axil_awvalid = 0;
            if (data_taken) sent_data = true, top_->s_axil_wvalid = 0;
        }
        for (bool taken = false; !taken; tick()) {
            top_->s_axil_bready = !stalled_();
            top_->eval();
            taken = top_->s_axil_bready && top_->s_axil_bvalid;
            if (taken && top_->s_axil_bresp != OKAY) fail("register write refused", address);
        }
        top_->s_axil_bready = 0;
    }

    uint32_t read_register(unsigned address) {
        top_->s_axil_araddr = address;
        for (bool taken = false; !taken;) {
            if (!top_->s_axil_arvalid) top_->s_axil_arvalid = !stalled_();
            top_->eval();
            taken = top_->s_axil_arvalid && top_->s_axil_arready;
            tick();
        }
        top_->s_axil_arvalid = 0;
        uint32_t value = 0;
        for (bool taken = false; !taken; tick()) {
            top_->s_axil_rready = !stalled_();
            top_->eval();
            taken = top_->s_axil_rready && top_->s_axil_rvalid;
            if (taken && top_->s_axil_rresp != OKAY) fail("register read refused", address);
            if (taken) value = top_->s_axil_rdata;
        }
        top_->s_axil_rready = 0;
        return value;
    }

    void tick() {
        top_->eval();
        for (Slave& slave : slaves_) slave.serve(cycle_);
        trace_.sample();
        top_->aclk = 1;
        top_->eval();
        ++cycle_;
        top_->aclk = 0;
        for (Slave& slave : slaves_) slave.update(cycle_);
        top_->eval();
    }

    void begin_run() { trace_.begin_run(); }
    bool interrupt() const { return top_->irq; }
    uint64_t cycle() const { return cycle_; }
    void save(const std::string& path) const {
        std::ofstream file(path, std::ios::binary);
        file.write(reinterpret_cast<const char*>(memory_.bytes.data()), memory_.bytes.size());
    }

  private:
    std::unique_ptr<Vacceltran> top_;
    Trace trace_;
    Stalls stalled_;
    Memory memory_;
    std::vector<Slave> slaves_;
    uint64_t cycle_ = 0;
};

// Wait for the interrupt; false if it does not come in time.
bool run(Machine& machine, const Options& options, unsigned number) {
    const uint64_t limit = machine.cycle() + options.number("cycles");
    const unsigned progress = options.number("progress_register");
    uint64_t next_report = machine.cycle() + 16384;
    machine.begin_run();
    while (!machine.interrupt() && machine.cycle() < limit) {
        machine.tick();
        if (machine.cycle() >= next_report) {
            std::printf("progress %u %u %llu\n", number, machine.read_register(progress),
                        static_cast<unsigned long long>(machine.cycle()));
            std::fflush(stdout);
            next_report = machine.cycle() + 16384;
        }
    }
    return machine.interrupt();
}

}  // namespace

int main(int argc, char** argv) {
    const Options options(argc, argv);
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Machine machine(options, &context);

    std::ifstream script(options.text("script"));
    std::ofstream results(options.text("results"));
    std::string action;
    unsigned runs = 0;
    for (bool going = true; going && script >> action;) {
        if (action == "run") {
            going = run(machine, options, runs++);
            results << "interrupt " << going << "\n";
            continue;
        }
        unsigned address;
        uint32_t value;
        script >> address;
        if (action == "read") {
            results << address << " " << machine.read_register(address) << "\n";
            continue;
        }
        script >> value;
        if (action == "write") machine.write_register(address, value);
        else going = !(machine.read_register(address) & value);
    }
    machine.save(options.text("image_out"));
    return 0;
}
